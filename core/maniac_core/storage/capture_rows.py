"""Turns captured records into the rows of their tables; the order of columns is that of `sql/queries.sql`.

Built once per batch: what several records add to the same counter is summed here first, and folds are sorted by key,
so that two writers always lock rows in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from maniac_core.domain.canonical_json import content_hash, facets
from maniac_core.domain.chat import Usage
from maniac_core.domain.completions import Attempt, CompletionRecord, KeyClaim

_SECONDS_PER_DAY = 86_400
_ERRORS = frozenset({"failed", "truncated", "rejected"})
_SUCCESSES = frozenset({"completed", "registered"})
_NO_USAGE = (None,) * 10
_LONGEST_TAG = 256
"""Characters; of longer ones the beginning is summed, because keys of indexes are not without bound."""

RowValues = tuple[Any, ...]
_json = msgspec.json.Encoder()


def rows_of(records: Sequence[CompletionRecord], first_seq: int) -> dict[str, list[RowValues]]:
    """Return the rows to insert or fold, by the name of their statement, in the order to execute.

    Of a record that is not to be stored, nothing that the caller or the provider wrote is in any row, only ids,
    reasons and numbers.
    """
    tables: dict[str, list[RowValues]] = {
        "insert_completion": [],
        "insert_body": [],
        "insert_attempt": [],
        "insert_facet": [],
    }
    folds = _Folds()
    for seq, record in enumerate(records, first_seq):
        _add_record(tables, folds, seq, record)
    tables["insert_facet"].sort()
    tables.update(folds.rows())
    return tables


def _add_record(
    tables: dict[str, list[RowValues]], folds: _Folds, seq: int, record: CompletionRecord
) -> None:
    store = record.store
    tables["insert_completion"].append(_completion_row(seq, record))
    if store and (record.input is not None or record.output is not None):
        body = (seq, record.created, record.output, record.route, record.input)
        tables["insert_body"].append(body)
    elif record.route is not None:
        tables["insert_body"].append((seq, record.created, None, record.route, None))
    for attempt in record.attempts:
        tables["insert_attempt"].append(_attempt_row(seq, attempt, store=store))
    folds.add_usage(record)
    if record.claim is not None:
        folds.add_claim(record, record.claim)
    if record.holds:
        folds.add_charge(record)
    if record.trace is not None:
        folds.add_trace(seq, record, record.trace.id)
    if record.is_listed:
        record_facets = (
            facets(record.caller.project, record.metadata) if record.metadata is not None else ()
        )
        folds.add_listed(record, record_facets)
        for facet in record_facets:
            tables["insert_facet"].append((facet, record.created, seq))


def _completion_row(seq: int, record: CompletionRecord) -> RowValues:
    caller = record.caller
    tags = metadata = error_message = digest = None
    trace = record.trace
    trace_id = span_id = parent_span_id = trace_name = trace_source = trace_metadata = None
    if trace is not None:
        trace_id, span_id, parent_span_id = trace.id, trace.span_id, trace.parent_span_id
    if record.store:
        tags = _json.encode(record.tags).decode() if record.tags else None
        metadata = record.metadata.decode() if record.metadata is not None else None
        error_message = record.error_message
        if record.input is not None:
            digest = record.content_hash or content_hash(record.input, record.output)
        if trace is not None:
            trace_name, trace_source = trace.name, trace.source
            trace_metadata = bytes(trace.metadata).decode() if trace.metadata is not None else None
    return (
        seq,
        record.id,
        caller.project,
        caller.organization,
        caller.key,
        record.created,
        record.request_id,
        record.status,
        record.is_listed,
        record.streamed,
        record.requested_model,
        record.model,
        record.provider,
        record.model_id,
        record.container,
        record.container_label,
        record.finish_reason,
        record.error_reason,
        error_message,
        *_usage_values(record.usage),
        record.usage_source,
        record.spend_nano_usd,
        record.time_to_first_token_us,
        record.latency_us,
        tags,
        metadata,
        trace_id,
        span_id,
        parent_span_id,
        trace_name,
        trace_source,
        trace_metadata,
        digest,
        record.replay_of,
    )


def _attempt_row(seq: int, attempt: Attempt, *, store: bool) -> RowValues:
    return (
        seq,
        attempt.number,
        attempt.provider,
        attempt.model,
        attempt.started_us,
        attempt.latency_us,
        attempt.time_to_first_token_us,
        attempt.outcome,
        attempt.http_status,
        attempt.error_reason,
        # A provider may quote the prompt in its message.
        attempt.error_message if store else None,
        *(_NO_USAGE if attempt.usage is None else _usage_values(attempt.usage)),
        attempt.spend_nano_usd,
    )


def _usage_values(usage: Usage) -> RowValues:
    return (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.input_audio_tokens,
        usage.output_audio_tokens,
        usage.cost_nano_usd,
        usage.service_tier,
    )


class _TraceFold:
    """The additions of one batch to one external trace."""

    __slots__ = (
        "errors",
        "first",
        "first_seq",
        "last",
        "name",
        "requests",
        "source",
        "spend",
        "successes",
        "unpriced",
    )

    def __init__(self, created: int, seq: int) -> None:
        self.first, self.first_seq = created, seq
        self.last = created
        self.name: str | None = None
        self.source: str | None = None
        self.requests = self.successes = self.errors = self.spend = self.unpriced = 0


class _Folds:
    """Sums of one batch, by key."""

    def __init__(self) -> None:
        self._completions: dict[RowValues, int] = {}
        self._facets: dict[RowValues, int] = {}
        self._usage: dict[RowValues, list[int]] = {}
        self._tags: dict[RowValues, list[int]] = {}
        self._tag_days: dict[RowValues, list[int]] = {}
        self._charges: dict[tuple[int, int], int] = {}
        self._holds: list[RowValues] = []
        self._parts: dict[str, int] = {}
        self._claims: list[RowValues] = []
        self._traces: dict[RowValues, _TraceFold] = {}
        self._trace_containers: set[RowValues] = set()

    def add_listed(self, record: CompletionRecord, record_facets: Sequence[bytes]) -> None:
        model, container = record.model or "", record.container or 0
        key = (record.caller.project, model, container)
        self._completions[key] = self._completions.get(key, 0) + 1
        for facet in record_facets:
            facet_key = (facet, model, container)
            self._facets[facet_key] = self._facets.get(facet_key, 0) + 1

    def add_usage(self, record: CompletionRecord) -> None:
        caller = record.caller
        what = (
            caller.key or 0,
            record.model or "",
            record.provider or "",
            record.container or 0,
            record.status,
        )
        day = record.created // _SECONDS_PER_DAY
        _add_sums(self._usage, (caller.organization, day, caller.project, *what), record)
        if record.store and (tags := {_tag(tag) for tag in record.tags if tag}):
            # The empty one counts the request once, whatever its tags.
            for tag in ("", *tags):
                key = (caller.project, tag, day, caller.organization, *what)
                _add_sums(self._tags, key, record)
                day_key = (caller.project, tag, day, record.status)
                _add_sums(self._tag_days, day_key, record)

    def add_charge(self, record: CompletionRecord) -> None:
        charge = _charge(record)
        for window in record.holds[0].windows:
            self._charges[window] = self._charges.get(window, 0) + charge
        for hold in record.holds:
            if hold.is_part:
                self._parts[hold.id] = self._parts.get(hold.id, 0) + hold.amount_nano_usd
            else:
                self._holds.append((hold.id,))

    def add_claim(self, record: CompletionRecord, claim: KeyClaim) -> None:
        self._claims.append((record.id, claim.until, record.caller.project, claim.key, claim.owner))

    def add_trace(self, seq: int, record: CompletionRecord, trace_id: str) -> None:
        key = (record.caller.project, trace_id)
        fold = self._traces.get(key)
        if fold is None:
            fold = self._traces[key] = _TraceFold(record.created, seq)
        if record.created < fold.first:
            fold.first, fold.first_seq = record.created, seq
        fold.last = max(fold.last, record.created)
        if record.store and record.trace is not None:
            fold.name = record.trace.name or fold.name
            fold.source = record.trace.source or fold.source
        fold.requests += 1
        fold.successes += record.status in _SUCCESSES
        fold.errors += record.status in _ERRORS
        fold.spend += record.spend_nano_usd or 0
        fold.unpriced += record.spend_nano_usd is None
        if record.container is not None:
            self._trace_containers.add((*key, record.container))

    def rows(self) -> dict[str, list[RowValues]]:
        return {
            "fold_completion_counts": sorted((*key, n) for key, n in self._completions.items()),
            "fold_facet_counts": sorted((*key, n) for key, n in self._facets.items()),
            "fold_usage": sorted((*key, *sums) for key, sums in self._usage.items()),
            "fold_traces": [
                (
                    *key,
                    fold.name,
                    fold.source,
                    fold.first,
                    fold.first_seq,
                    fold.last,
                    fold.requests,
                    fold.successes,
                    fold.errors,
                    fold.spend,
                    fold.unpriced,
                )
                for key, fold in sorted(self._traces.items(), key=_key)
            ],
            "insert_trace_container": sorted(self._trace_containers),
            "fold_usage_tags": sorted((*key, *sums) for key, sums in self._tags.items()),
            "fold_usage_tag_days": sorted((*key, *sums) for key, sums in self._tag_days.items()),
            "answer_claim": self._claims,
            # Last, because other cores wait for the rows of a budget.
            "drop_reservation": sorted(self._holds),
            "shrink_reservation": [(amount, one) for one, amount in sorted(self._parts.items())],
            "charge_budget": [
                (charge, *window) for window, charge in sorted(self._charges.items())
            ],
        }


def _tag(tag: str) -> str:
    """Return the form in which a tag is summed; PostgreSQL takes no zero character."""
    return tag[:_LONGEST_TAG].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _charge(record: CompletionRecord) -> int:
    """Return what budgets are charged; of a record that does not say it, as the version charged that spooled it."""
    if record.charge_nano_usd is not None:
        return record.charge_nano_usd
    if record.spend_nano_usd is not None:
        return record.spend_nano_usd
    return sum(hold.amount_nano_usd for hold in record.holds) if record.usage.total_tokens else 0


def _add_sums(folds: dict[RowValues, list[int]], key: RowValues, record: CompletionRecord) -> None:
    usage = record.usage
    sums = folds.get(key)
    if sums is None:
        sums = folds[key] = [0] * 9
    sums[0] += 1
    sums[1] += usage.input_tokens
    sums[2] += usage.cache_read_tokens
    sums[3] += usage.cache_write_tokens
    sums[4] += usage.cache_write_1h_tokens
    sums[5] += usage.output_tokens
    sums[6] += usage.reasoning_tokens
    sums[7] += record.spend_nano_usd or 0
    sums[8] += record.spend_nano_usd is None and usage.total_tokens > 0


def _key(item: tuple[RowValues, _TraceFold]) -> RowValues:
    return item[0]
