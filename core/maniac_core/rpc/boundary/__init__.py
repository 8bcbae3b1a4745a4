"""What every RPC passes on its way in and out: admission, errors, paging."""
