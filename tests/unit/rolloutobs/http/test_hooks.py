"""Templates of Django's routes, and hooks that cannot be set."""

import sys
from types import ModuleType

import pytest

from rolloutobs.http import hooks
from rolloutobs.telemetry import hub
from rolloutobs.telemetry.failures import Where


@pytest.mark.parametrize(
    ("route", "template"),
    [
        ("", "/"),
        ("items/<int:pk>/", "/items/<int:pk>/"),
        (r"^items/(?P<pk>\d+)/$", "/items/<pk>/"),
        (r"shop/^old/(?P<year>[0-9]{4})/(?P<rest>(a|b)+)\Z", "/shop/old/<year>/<rest>"),
        (r"^price/\$(?P<n>\d+)$", r"/price/\$<n>"),
        (r"^(\d+)/$", r"/(\d+)/"),
        ("/already", "/already"),
    ],
)
def test_templates_of_django(route, template):
    assert hooks.django_template(route) == template


def test_a_framework_that_has_moved_things_costs_the_routes_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "quart", ModuleType("quart"))
    monkeypatch.setattr(hooks, "_hooked", {"flask", "django.core.handlers.base"})
    for _ in range(2):
        hooks.hook_frameworks(object())
    family = hub.process_failures().family
    assert family.cell(Where.REQUEST.value).value == 1
