"""A proxy that delays every answer, like a distant server: slow.py URL SECONDS."""

from __future__ import annotations

import asyncio
import json
import sys
from urllib.parse import urlsplit

CHUNK_BYTES = 65536


async def main(url: str, delay_s: float) -> None:
    """Forward connections until a signal."""
    behind = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(pass_on(reader, there_writer, 0.0), pass_on(there_reader, writer, delay_s))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    await server.serve_forever()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Forward one direction, each piece delayed by `delay_s`."""
    try:
        while data := await reader.read(CHUNK_BYTES):
            if delay_s:
                await asyncio.sleep(delay_s)
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the client or the server closed it
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
