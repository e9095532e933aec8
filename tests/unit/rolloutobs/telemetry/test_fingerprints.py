"""Fingerprints of errors: equal where the error is, whatever the values, the lines and the Python."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloutobs.telemetry.fingerprints import MAX_TEXT_CHARS, error_type, of_exception, of_message, scrub


class PaymentError(Exception):
    pass


def raised(call, *args):
    try:
        call(*args)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def charge(text):
    raise PaymentError(f"card of {text} refused")


def refund(text):
    raise PaymentError(text)


def test_an_exception_is_its_class_and_the_innermost_function_of_the_app():
    error = of_exception(raised(charge, "ann@example.com"))
    assert error.type == f"{__name__}.PaymentError"
    assert error.place == f"{__name__}:charge"
    assert error.sample == "card of # refused"
    assert error.fingerprint == of_exception(raised(charge, "bob")).fingerprint
    assert error.fingerprint != of_exception(raised(refund, "x")).fingerprint
    assert len(error.fingerprint) == 12


def test_library_code_is_not_the_place():
    error = of_exception(raised(lambda: scrub(None)))
    assert error.place.startswith(f"{__name__}:test_library_code_is_not_the_place")
    import json

    assert of_exception(raised(json.loads, "{")).place == f"{__name__}:raised"


def test_an_exception_that_was_never_raised_has_no_place():
    error = of_exception(ValueError("42 is not it"))
    assert (error.type, error.place, error.sample) == ("ValueError", "", "# is not it")


def test_a_group_of_one_is_that_one_and_a_group_of_two_is_a_group():
    inner = raised(charge, "x")
    assert of_exception(ExceptionGroup("tasks", [ExceptionGroup("more", [inner])])) == of_exception(inner)
    assert of_exception(ExceptionGroup("tasks", [inner, ValueError()])).type == "ExceptionGroup"


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def test_an_exception_that_cannot_be_printed_has_a_fingerprint_all_the_same():
    assert of_exception(UnprintableError()).sample == ""


CALLER = """
def in_list(call):
    return {1: [call() for _ in (1,)] for _ in (1,)}

def in_generator(call):
    return list(call() for _ in (1,))

def in_lambda(call):
    return [(lambda: call())() for _ in (1,)]
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("in_list", "caller:in_list"),
        ("in_generator", "caller:in_generator"),
        ("in_lambda", "caller:in_lambda.<locals>.<lambda>"),
    ],
)
def test_comprehensions_are_part_of_the_function_around_them(tmp_path, monkeypatch, name, expected):
    # From Python 3.12 on they have no frame of their own, and versions may run on different Pythons.
    (tmp_path / "caller.py").write_text(CALLER)
    monkeypatch.syspath_prepend(tmp_path)
    import caller

    site = type(sys)("library")
    code = compile(
        "def fail():\n    raise ValueError\n", sysconfig.get_paths()["purelib"] + "/library.py", "exec"
    )
    exec(code, vars(site))
    assert of_exception(raised(getattr(caller, name), site.fail)).place == expected
    monkeypatch.delitem(sys.modules, "caller")


def function(module, name, filename, inner=None):
    """Return a function that calls `inner`, as if it were of `module` in `filename`."""
    namespace = {"__name__": module, "inner": inner}
    body = "inner()" if inner is not None else "raise ValueError('x')"
    exec(compile(f"def {name}():\n    {body}\n", filename, "exec"), namespace)
    return namespace[name]


def test_an_app_that_is_installed_is_the_first_package_below_the_frameworks():
    folder = sysconfig.get_paths()["purelib"]
    driver = function("driver.pool", "query", f"{folder}/driver/pool.py")
    orders = function("shop.orders", "place_order", f"{folder}/shop/orders.py", driver)
    handler = function("shop.api", "post", f"{folder}/shop/api.py", orders)
    routing = function("starlette.routing", "app", f"{folder}/starlette/routing.py", handler)
    server = function("uvicorn.protocols", "run", f"{folder}/uvicorn/protocols.py", routing)
    error = raised(server)
    # Called from here, which is nobody's library: take the frames of the server on.
    error = error.with_traceback(error.__traceback__.tb_next)
    assert of_exception(error).place == "shop.orders:place_order"


def test_with_frameworks_only_the_innermost_function_counts():
    folder = sysconfig.get_paths()["purelib"]
    routing = function("starlette.routing", "app", f"{folder}/starlette/routing.py")
    error = raised(function("uvicorn.protocols", "run", f"{folder}/uvicorn/protocols.py", routing))
    assert of_exception(error.with_traceback(error.__traceback__.tb_next)).place == "starlette.routing:app"


SCRIPT = """
import sys
from rolloutobs.telemetry.fingerprints import of_exception, of_message

class ShopError(Exception):
    pass

def handler():
    raise ShopError(sys.argv)

try:
    handler()
except ShopError as error:
    print(of_exception(error).fingerprint, of_message("shop", "failed", error).fingerprint)
"""


def test_the_same_in_another_process_by_file_by_module_and_with_other_lines(tmp_path):
    (tmp_path / "shopscript.py").write_text(SCRIPT)
    later = tmp_path / "later"
    later.mkdir()
    (later / "shopscript.py").write_text("# a new line\n\n" + SCRIPT)
    root = str(Path(__file__).parents[4])

    def run(cwd, *args, seed):
        environ = {"PYTHONPATH": root, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, *args], cwd=cwd, env=environ, check=True, capture_output=True, text=True
        ).stdout

    printed = [
        run(tmp_path, "shopscript.py", seed="1"),
        run(tmp_path, "-m", "shopscript", seed="2"),
        run(later, str(later / "shopscript.py"), seed="3"),
        run(later, "-c", "import shopscript", seed="4"),
    ]
    assert len(set(printed)) == 1
    assert len(set(printed[0].split())) == 2, "an exception and the message that tells of it differ"


def test_a_message_is_its_logger_and_its_template():
    one = of_message("shop.orders", "order %s failed", None)
    assert (one.type, one.place, one.sample) == ("log", "shop.orders", "order %s failed")
    assert one == of_message("shop.orders", "order %s failed", None)
    assert one.fingerprint != of_message("shop.carts", "order %s failed", None).fingerprint
    assert one.fingerprint != of_message("shop.orders", "order %s is late", None).fingerprint


def test_a_message_with_an_exception_is_both():
    error = raised(charge, "x")
    both = of_message("shop.orders", "order failed", error)
    assert (both.type, both.place) == (f"{__name__}.PaymentError", f"{__name__}:charge")
    assert both.sample == "order failed: card of x refused"
    prints = {
        both.fingerprint,
        of_message("shop.orders", "order failed", None).fingerprint,
        of_message("shop.orders", "order failed", raised(refund, "x")).fingerprint,
        of_exception(error).fingerprint,
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("user 17 is gone", "user 4711 is gone"),
        ("user ann@example.com is gone", "user bob@shop.example is gone"),
        ("key 'ab' is gone", "key 'c d' is gone"),
        ("session 3fa85f64-5717-4562-b3fc-2c963f66afa6", "session 00000000-1111-4562-b3fc-2c963f66afa6"),
        ("object at 0x7f12aa", "object at 0x9912bb"),
        ("GET /search?q=shoes", "GET /search?q=hats"),
    ],
)
def test_a_template_with_values_in_it_is_one_all_the_same(first, second):
    assert of_message("shop", first, None).fingerprint == of_message("shop", second, None).fingerprint


def test_structlog_events_are_known_by_their_event():
    rendered = [
        of_message("shop", '{"event": "payment refused", "user": "ann", "level": "error"}', None),
        of_message("shop", '{"user": "bob", "event": "payment refused"}', None),
        of_message("shop", {"event": "payment refused", "cents": 17}, None),
        of_message("shop", "payment refused", None),
    ]
    assert {error.sample for error in rendered} == {"payment refused"}
    assert len({error.fingerprint for error in rendered}) == 1


@pytest.mark.parametrize("template", ["{not json", '{"a": 1}', "{" * 100_000, '{"event": 3}'])
def test_what_only_looks_like_an_event_is_text(template):
    assert of_message("shop", template, None).sample == scrub(template)


def test_an_object_that_is_logged_is_known_by_its_class():
    assert of_message("shop", 17, None).sample == "int"
    assert of_message("shop", {"cents": 17}, None).sample == "dict"
    error = raised(charge, "x")
    logged = of_message("shop", error, None)
    assert (logged.type, logged.place) == (f"{__name__}.PaymentError", f"{__name__}:charge")


def test_the_class_of_a_built_in_exception_has_no_module():
    assert error_type(KeyError("x")) == "KeyError"


@given(st.text(max_size=3000))
def test_a_sample_is_short_one_line_and_without_digits(text):
    said = scrub(text)
    assert len(said) <= MAX_TEXT_CHARS
    assert not any(character in "0123456789\n\r" for character in said)
    assert said == scrub(text)


@pytest.mark.parametrize(
    "text", ["a" * 5000, "'" * 5000, '"' * 5000, "a@" * 2500, "x1" * 2500, "-" * 5000, "? " * 2500]
)
def test_hostile_text_is_scrubbed_too(text):
    assert len(scrub(text)) <= MAX_TEXT_CHARS
