"""The routes that an app has, before it was asked for any."""

from flask import Flask
from quart import Quart

from rolloutobs.http.listing import listed_routes
from tests.transparency import apps


def ok(**_):
    return "ok"


def test_flask_and_quart():
    for framework in (Flask, Quart):
        app = framework("shop", static_folder=None)
        app.add_url_rule("/items/<int:item_id>", view_func=ok, endpoint="item", methods=["GET", "DELETE"])
        app.add_url_rule("/only-options", view_func=ok, endpoint="options", methods=["OPTIONS"])
        assert list(listed_routes(app)) == [
            ("DELETE", "/items/<int:item_id>"),
            ("GET", "/items/<int:item_id>"),
        ]


def test_django(monkeypatch):
    app = apps.django_wsgi()
    assert {
        ("GET", "/items/<int:item_id>"),
        ("GET", "/slash/"),
        ("GET", "/mounted/users/<name>"),
    } <= set(listed_routes(app))

    from django.urls import path
    from django.views import View

    class Basket(View):
        def get(self, request):
            return None

        def delete(self, request):
            return None

    def actions():
        return None

    # As Django REST framework marks its view sets and views.
    actions.actions = {"get": "list", "post": "create", "trace": "x"}

    def view():
        return None

    view.cls = type("Api", (), {"put": None})
    urls = __import__("sys").modules["tests_transparency_urls"]
    patterns = [path("basket", Basket.as_view()), path("set", actions), path("api", view)]
    monkeypatch.setattr(urls, "urlpatterns", patterns)
    from django.urls import clear_url_caches

    clear_url_caches()
    try:
        found = list(listed_routes(app))
    finally:
        monkeypatch.undo()
        clear_url_caches()
    assert found == [
        ("GET", "/basket"),
        ("DELETE", "/basket"),
        ("GET", "/set"),
        ("POST", "/set"),
        ("PUT", "/api"),
    ]


def test_others_have_none():
    assert list(listed_routes(lambda environ, start_response: [])) == []

    class Odd:
        url_map = object()

    assert list(listed_routes(Odd())) == []
