"""aio/client.py: the same methods as those of the blocking client."""

from __future__ import annotations

import inspect

import pytest

import brolga
from brolga.aio import AsyncClient, AsyncRegistries
from brolga.client import Client
from brolga.client.registries import Registries


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_methods_are_those_of_client() -> None:
    """A new method of the one is a method of the other."""
    # A loop cannot wait for a dropped client: `async with` closes it.
    assert public(AsyncClient) == public(Client) - {"close_when_dropped"}


def test_methods_of_registries_are_those_about_a_registry() -> None:
    """The others open repositories as stores, which block."""
    methods = {"authorization", "catalog", "check_login", "explain"}
    assert public(AsyncRegistries) == methods
    assert methods <= public(Registries)


@pytest.mark.parametrize("name", sorted(public(AsyncClient) - {"close"}))
def test_method_has_parameters_and_doc_of_client(name: str) -> None:
    """The documentation of the one is that of the other."""
    method, blocking = getattr(AsyncClient, name), getattr(Client, name)
    assert inspect.signature(method) == inspect.signature(blocking)
    assert method.__doc__ == blocking.__doc__


def test_client_has_the_options_of_client() -> None:
    """All but what performs the requests."""
    options = set(inspect.signature(Client).parameters) - {"make_transport"}
    assert set(inspect.signature(AsyncClient).parameters) == options


def test_client_without_event_loop_is_runtime_error() -> None:
    """It belongs to the event loop in which it is made."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncClient()


def test_client_is_a_public_name() -> None:
    """It is loaded when it is used."""
    assert brolga.AsyncClient is AsyncClient
