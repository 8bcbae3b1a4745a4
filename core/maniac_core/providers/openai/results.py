"""Results of tools as OpenAI's chat takes them: text, without a sign of failure."""

from __future__ import annotations

from maniac_core.domain.chat import RESULT_MEDIA, JsonObject

_ELSEWHERE = "(shown in the next message)"


def plain_results(messages: list[JsonObject]) -> list[JsonObject]:
    """Return messages in which results hold only text: what else they hold follows in a message of the user.

    That message comes after the last result of the same calls, since the results have to follow their calls.
    """
    plain: list[JsonObject] = []
    media: list[JsonObject] = []
    for message in messages:
        if message["role"] != "tool":
            _show(plain, media)
            plain.append(message)
            continue
        message = {key: value for key, value in message.items() if key != "is_error"}  # noqa: PLW2901
        if message.pop(RESULT_MEDIA, False):
            parts = message["content"]
            texts = [part for part in parts if part["type"] == "text"]
            media += [part for part in parts if part["type"] != "text"]
            message["content"] = texts or _ELSEWHERE
        plain.append(message)
    _show(plain, media)
    return plain


def _show(messages: list[JsonObject], media: list[JsonObject]) -> None:
    if media:
        messages.append({"role": "user", "content": list(media)})
        media.clear()
