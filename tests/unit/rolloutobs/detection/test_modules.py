import functools
import sys
import types
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from starlette.middleware.gzip import GZipMiddleware

from rolloutobs.detection.modules import app_modules, named_module

HERE = Path(__file__)


def names(app, environ=None):
    return {module.name for module in app_modules(app, environ or {})}


def function_in(module_name, file=None):
    """Return a function that says it belongs to a module."""

    async def app(scope, receive, send):
        raise AssertionError("nothing is called here")

    app.__module__ = module_name
    if file is not None:
        module = types.ModuleType(module_name)
        module.__file__ = str(file)
        sys.modules[module_name] = module
    return app


@pytest.fixture(autouse=True)
def _no_leftover_modules():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("shop_"):
            del sys.modules[name]


def test_a_function_belongs_to_its_module(tmp_path):
    app = function_in("shop_api.main", tmp_path / "shop_api" / "main.py")
    (module,) = app_modules(app, {})
    assert (module.name, module.top) == ("shop_api.main", "shop_api")
    assert module.file == tmp_path / "shop_api" / "main.py"
    assert names(functools.partial(app, 1)) == {"shop_api.main"}
    assert names(GZipMiddleware(GZipMiddleware(app))) == {"shop_api.main"}


def test_a_decorated_function_counts_for_both_modules():
    inner = function_in("shop_api.main")

    @functools.wraps(inner)
    def outer():
        raise AssertionError("nothing is called here")

    outer.__module__ = "shop_decorators"
    assert names(outer) == {"shop_decorators", "shop_api.main"}


def test_flask_says_where_it_was_made():
    assert names(types.SimpleNamespace(import_name="shop_api.web")) == {"shop_api.web"}


def test_django_is_known_by_its_settings():
    handler = type("ASGIHandler", (), {"__module__": "django.core.handlers.asgi"})()
    assert names(handler, {"DJANGO_SETTINGS_MODULE": "shop_site.settings"}) == {"shop_site.settings"}


def test_endpoints_tell_more_than_the_framework():
    app = FastAPI()
    router = APIRouter()
    app.get("/a")(function_in("shop_api.users"))
    app.get("/b")(function_in("shop_api.items"))
    app.get("/c")(function_in("shop_plugin"))
    app.include_router(router)
    assert {name.partition(".")[0] for name in names(app)} == {"shop_api", "shop_plugin"}


def test_without_routes_the_caller_is_asked():
    (module,) = (m for m in app_modules(FastAPI(), {}) if m.file == HERE)
    assert not module.is_installed


def test_frameworks_and_the_standard_library_are_never_the_app(tmp_path):
    for foreign in ("fastapi.applications", "uvicorn.main", "asyncio.runners", "opentelemetry.sdk"):
        # What is left is the caller: this file.
        assert foreign not in names(function_in(foreign))


def test_installed_files_are_told_from_a_project(tmp_path):
    path = tmp_path / "lib" / "site-packages" / "shop_api" / "main.py"
    (module,) = app_modules(function_in("shop_api.main", path), {})
    assert module.is_installed


class Hostile:
    """Everything about it raises."""

    def __getattr__(self, name):
        raise RuntimeError(name)


def test_objects_that_raise_are_passed_over():
    assert HERE in {module.file for module in app_modules(Hostile(), {})}


def test_an_app_that_wraps_itself_ends():
    knot = types.SimpleNamespace(import_name=None)
    other = types.SimpleNamespace(import_name=7)
    knot.app, other.app = (lambda: None), (lambda: None)
    knot.app = functools.partial(knot.app)
    assert HERE in {module.file for module in app_modules(knot, {})}

    class Endless:
        @property
        def app(self):
            return Endless()

        def __call__(self):
            raise AssertionError("nothing is called here")

    assert HERE in {module.file for module in app_modules(Endless(), {})}


def test_a_module_is_found_by_name_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "shop_found"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = named_module("shop_found.main")
    assert module is not None
    assert (module.name, module.file) == ("shop_found.main", package / "__init__.py")
    assert named_module("shop_nowhere") is None
