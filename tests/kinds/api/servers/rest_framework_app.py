"""`python -m tests.kinds.api.servers.rest_framework_app PORT DATABASE TOKEN`: the app that `rest_framework` starts."""

import sys
from typing import Any

import django
import waitress
from django.conf import settings

THROTTLE = "3/second"
PORT, DATABASE, TOKEN = sys.argv[1:4]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY="of-the-tests",
    INSTALLED_APPS=["rest_framework"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE, "OPTIONS": {"timeout": 30}}},
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    TIME_ZONE="America/Chicago",  # away from UTC, so that a local time taken for UTC shows
    REST_FRAMEWORK={
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_THROTTLE_RATES": {"items": THROTTLE},
    },
)
django.setup()

from django.db import connection, models  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import authentication, exceptions, generics, pagination, permissions, serializers, throttling  # noqa: E402


class Item(models.Model):
    """One row of the list."""

    name = models.CharField(max_length=100)
    updated_at = models.DateTimeField()

    class Meta:
        app_label = "items"
        db_table = "items"


class ItemSerializer(serializers.ModelSerializer):
    """An item with all its fields."""

    class Meta:
        model = Item
        fields = ("id", "name", "updated_at")


class Caller:
    """Whoever knows the token."""

    is_authenticated = True
    pk = "reader"


class OneToken(authentication.TokenAuthentication):
    """The framework's own scheme (`Authorization: Token …`) with one token instead of a table of them."""

    def authenticate_credentials(self, key: str) -> tuple[Caller, str]:
        """The caller, or the framework's 401."""
        if key != TOKEN:
            raise exceptions.AuthenticationFailed("Invalid token.")
        return Caller(), key


class ByPage(pagination.PageNumberPagination):
    """`?page=2&page_size=50`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500


class ByOffset(pagination.LimitOffsetPagination):
    """`?limit=50&offset=50`."""

    default_limit = 50


class ByCursor(pagination.CursorPagination):
    """`?cursor=…`, a position in the order of `updated_at`."""

    page_size = 50
    page_size_query_param = "page_size"
    ordering = ("updated_at", "id")


class ItemsThrottle(throttling.UserRateThrottle):
    """So many requests a second."""

    scope = "items"


class Items(generics.ListAPIView):
    """The list, in the pagination that the address names."""

    authentication_classes = (OneToken,)
    permission_classes = (permissions.IsAuthenticated,)
    serializer_class = ItemSerializer

    def get_queryset(self) -> Any:
        """Ordered by id; from `updated_since` on, when it is given."""
        items = Item.objects.order_by("id")
        since = self.request.query_params.get("updated_since")
        return items.filter(updated_at__gte=since) if since else items


urlpatterns = [
    path("page/items/", Items.as_view(pagination_class=ByPage)),
    path("offset/items/", Items.as_view(pagination_class=ByOffset)),
    path("cursor/items/", Items.as_view(pagination_class=ByCursor)),
    path("throttled/items/", Items.as_view(pagination_class=ByPage, throttle_classes=[ItemsThrottle])),
]


def main() -> None:
    """Create the table and serve."""
    from django.core.wsgi import get_wsgi_application

    with connection.cursor() as cursor:
        cursor.execute("pragma journal_mode = wal")
    with connection.schema_editor() as editor:
        editor.create_model(Item)
    waitress.serve(get_wsgi_application(), host="127.0.0.1", port=int(PORT), threads=12, _quiet=True)


if __name__ == "__main__":
    main()
