"""The steps Resolve and TCP."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any

from sensorsync.mqtt.check.report import StepFailed, StepOutput
from sensorsync.mqtt.client.diagnosis import cause_of_os_error
from sensorsync.mqtt.client.options import ConnectOptions

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


async def resolve(options: ConnectOptions) -> tuple[StepOutput, list[Address]]:
    """Return the addresses of the host. Raises StepFailed."""
    try:
        async with asyncio.timeout(options.connect_timeout):
            found = await asyncio.get_running_loop().getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise StepFailed("name_server", f"no answer about {options.host} in {options.connect_timeout:g} s") from None
    except (OSError, UnicodeError) as error:
        cause = cause_of_os_error(error) if isinstance(error, OSError) else "name_unknown"
        raise StepFailed(cause, f"{options.host}: {getattr(error, 'strerror', None) or error}") from error
    addresses: list[Address] = [(family, address) for family, _, _, _, address in found]
    shown = [str(address[0]) for _, address in addresses]
    return StepOutput(f"{options.host} is {', '.join(shown)}", {"addresses": shown}), addresses


async def connect_tcp(options: ConnectOptions, addresses: Sequence[Address]) -> StepOutput:
    """Try to connect to each address. Raises StepFailed when none answers."""
    outcomes = await asyncio.gather(*(_try_connect(one, options.connect_timeout) for one in addresses))
    failures = {str(address[0]): error for (_, address), error in zip(addresses, outcomes, strict=True) if error}
    facts = {"unreachable": {address: _error_text(error) for address, error in failures.items()}}
    if len(failures) == len(addresses):
        causes = [cause_of_os_error(error) for error in failures.values()]
        cause = next((one for one in causes if one.key == "refused"), causes[0])
        detail = "; ".join(f"{address} port {options.port}: {words}" for address, words in facts["unreachable"].items())
        raise StepFailed(cause, detail, **facts)
    reached = next(address for (_, address), error in zip(addresses, outcomes, strict=True) if not error)
    summary = f"connected to {reached[0]} port {options.port}"
    if failures:
        summary += f" (not to {', '.join(failures)})"
    return StepOutput(summary, facts)


async def _try_connect(address: Address, timeout: float) -> OSError | None:
    family, place = address
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(connection, place)
    except TimeoutError as error:
        return error if error.errno else TimeoutError(errno.ETIMEDOUT, f"no answer in {timeout:g} s")
    except OSError as error:
        return error
    return None


def _error_text(error: OSError) -> str:
    """Return the error's text without the address that asyncio adds, because the caller shows the address."""
    words = error.strerror or str(error)
    return {errno.ECONNREFUSED: "connection refused"}.get(error.errno or 0, words)
