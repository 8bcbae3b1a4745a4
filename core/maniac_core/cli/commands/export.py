"""`maniac-gateway export`: writes captured completions as JSON Lines."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import BinaryIO

from maniac_core.cli.collection import Collection, open_collection
from maniac_core.cli.progress import Progress


def run(arguments: argparse.Namespace) -> int:
    """Write everything that matches and return the exit status."""
    asyncio.run(_run(arguments))
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    async with open_collection(arguments) as collection:
        if arguments.container:
            await collection.require_container(arguments.container)
        path: Path | None = arguments.out
        if path is None:
            await _write(collection, arguments, sys.stdout.buffer)
            return
        # Beside the file, so that it is there whole or not at all.
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            # It will hold prompts.
            with os.fdopen(
                os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb"
            ) as file:
                await _write(collection, arguments, file)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


async def _write(collection: Collection, arguments: argparse.Namespace, file: BinaryIO) -> None:
    progress = Progress(sys.stderr, None)
    written = 0
    lines = collection.exporter.lines(
        collection.call.caller,
        "fine_tuning" if arguments.format == "fine-tuning" else "full",
        model=arguments.model,
        container=arguments.container,
        metadata_json=arguments.metadata.encode(),
    )
    try:
        async for line in lines:
            file.write(line)
            written += 1
            progress.show(0, written)
    finally:
        await lines.aclose()
    file.flush()
    progress.end(0, written)
