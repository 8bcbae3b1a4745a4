"""The boundary that every RPC passes: admission, errors, paging."""
