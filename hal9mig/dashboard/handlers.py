"""The addresses: pages, their JSON, orders, the login, and what every answer carries against abuse."""

from __future__ import annotations

import asyncio
import functools
import http
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tornado import web

from hal9mig import errors, model
from hal9mig.dashboard import access as accesses
from hal9mig.dashboard import document, metrics
from hal9mig.dashboard.access import Access
from hal9mig.dashboard.overview import Overview
from hal9mig.dashboard.page import ASSETS, Pages, Visitor
from hal9mig.dashboard.reader import Away, Reader
from hal9mig.dashboard.run_view import RunView

log = logging.getLogger(__name__)
T = TypeVar("T")

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: a browser would then keep back the Origin of our own forms, too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Server": "hal9-migrate",
}
#: Seconds that a wrong token waits for its answer.
_WRONG = 1.0
_STATUS = {
    errors.NotFound: 404,
    errors.Refused: 409,
    errors.Unreachable: 503,
    errors.TimedOut: 503,
}


class Site:
    """What all answers share: the reader, the pages, who is let in, and the threads in which blocking work is done."""

    def __init__(self, reader: Reader, access: Access, *, port: int):
        self.reader, self.access, self.pages = reader, access, Pages()
        # A browser sends the cookies of one port of a machine to every other one of it.
        self.cookie = f"hal9_dashboard_{port}"
        self.threads = ThreadPoolExecutor(8, thread_name_prefix="answer")

    async def aside(self, work: Callable[[], T]) -> T:
        """Do blocking work in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)


class _Handler(web.RequestHandler):
    """What every address has in common."""

    site: Site

    def initialize(self, site: Site) -> None:
        self.site = site

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        if not self.site.access.knows(self.request.host):
            raise web.HTTPError(
                421,
                "This dashboard is not known by the name %s. Where a reverse proxy shows it by that name, it has to "
                "be told so: hal9-migrate dashboard --host NAME",
                self.request.host,
            )

    def get_current_user(self) -> str | None:
        kept = self.get_signed_cookie(self.site.cookie, max_age_days=accesses.LOGIN_DAYS)
        return None if kept is None or self.site.access.token is None else kept.decode("utf-8", "replace")

    def get_login_url(self) -> str:
        return f"{self.up}login"

    @property
    def up(self) -> str:
        """What leads from this address to the first page: links work below any path that a proxy has put before."""
        return "../" * (self.request.path.count("/") - 1) or "./"

    @property
    def visitor(self) -> Visitor:
        """Who looks."""
        return Visitor(
            name=self.current_user,
            has_token=self.site.access.token is not None,
            form_key=self.xsrf_form_html(),
            up=self.up,
        )

    def check_xsrf_cookie(self) -> None:
        # A page at another port of this machine counts as the same site and may set cookies: it is told by its origin.
        origin = self.request.headers.get("Origin")
        if origin is not None and not accesses.same_origin(origin, self.request.host):
            raise web.HTTPError(403, "This form was sent by another page: %s", origin)
        try:
            super().check_xsrf_cookie()
        except web.HTTPError:
            raise web.HTTPError(
                403,
                "This form does not belong to a page that this browser was shown: reload the page, and press again.",
            ) from None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        message = "This ought not to happen; the dashboard's log says more."
        if isinstance(error, web.HTTPError):
            told = error.log_message % error.args if error.log_message else error.reason
            message = told or http.HTTPStatus(status_code).phrase
        elif isinstance(error, errors.HAL9Error):
            message = error.message
        title = f"{status_code}: {_title(status_code)}"
        self.page(self.site.pages.trouble(title, message, self.visitor), status_code)

    def may_read(self) -> bool:
        """Whether the page may be shown to who asks."""
        return self.site.access.reading or self.current_user is not None

    def page(self, made: bytes, status: int = 200) -> None:
        """Answer with a page."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.finish(made)


def _title(status: int) -> str:
    return {403: "Not allowed", 404: "Not found", 405: "Not this way", 421: "Another name", 500: "A fault"}.get(
        status, http.HTTPStatus(status).phrase
    )


class _Shown(_Handler):
    """Pages that are for those who may read."""

    def prepare(self) -> None:
        super().prepare()
        if not self.may_read():
            self.redirect(self.get_login_url())

    def show(self, found: Overview | RunView | Away, notice: errors.HAL9Error | None = None, status: int = 200) -> None:
        """Answer with what was read."""
        pages = self.site.pages
        if isinstance(found, Away):
            self.page(pages.away(found, self.visitor), 503)
        elif isinstance(found, RunView):
            self.page(pages.run(found, self.visitor, notice), status)
        else:
            self.page(pages.overview(found, self.visitor, notice), status)

    async def overview(self) -> Overview | Away:
        """Read the first page."""
        text = self.get_query_argument("before", "")
        if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise web.HTTPError(400, "%s is no number of a run.", text)
        return await self.site.aside(functools.partial(self.site.reader.overview, before=int(text) if text else None))

    async def run(self, number: str) -> RunView | Away:
        """Read the page of a run."""
        try:
            return await self.site.aside(functools.partial(self.site.reader.run, int(number)))
        except errors.NotFound as error:
            raise web.HTTPError(404, "%s", error.message) from None


class OverviewPage(_Shown):
    """The first page."""

    async def get(self) -> None:
        self.show(await self.overview())


class RunPage(_Shown):
    """The page of a run."""

    async def get(self, number: str) -> None:
        self.show(await self.run(number))


class Order(_Shown):
    """A button."""

    async def post(self, number: str, order: str) -> None:
        if self.current_user is None:
            raise web.HTTPError(403, "The buttons are for who has logged in.")
        back = self.get_body_argument("back", "run")
        # By whom is in the audit: the name is the visitor's own word, and the token what proves a right.
        actor = f"{self.current_user} (dashboard)"
        give = functools.partial(self.site.reader.order, int(number), model.RunOrder(order), actor=actor)
        try:
            await self.site.aside(give)
        except errors.HAL9Error as error:
            status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
            if isinstance(error, errors.NotFound):
                raise web.HTTPError(404, "%s", error.message) from None
            log.warning("%s of run %s by %s: %s", order, number, actor, error.message)
            self.show(await (self.overview() if back == "overview" else self.run(number)), error, status)
            return
        log.info("%s of run %s by %s", order, number, actor)
        # See other: a reload must not give the order again.
        self.redirect(self.up if back == "overview" else f"../{int(number)}", status=303)


class Login(_Handler):
    """Where the token is entered."""

    def get(self) -> None:
        if self.site.access.token is None:
            raise web.HTTPError(404, "No token is set, so there is nothing to log in to; the page is read-only.")
        self.page(self.site.pages.login(self.visitor, wrong=False))

    async def post(self) -> None:
        name = accesses.spoken(self.get_body_argument("name", "")) or "somebody"
        if not self.site.access.fits(self.get_body_argument("token", "").strip()):
            log.warning("a wrong token was entered at %s", self.request.remote_ip)
            await asyncio.sleep(_WRONG)
            self.page(self.site.pages.login(self.visitor, wrong=True), 403)
            return
        self.set_signed_cookie(
            self.site.cookie,
            name,
            expires_days=accesses.LOGIN_DAYS,
            httponly=True,
            samesite="Strict",
            secure=self.request.headers.get("X-Forwarded-Proto") == "https",
        )
        log.info("%s has logged in", name)
        self.redirect(self.up, status=303)


class Logout(_Handler):
    """The end of a login."""

    def post(self) -> None:
        self.clear_cookie(self.site.cookie, httponly=True, samesite="Strict")
        self.redirect(self.up, status=303)


class _Json(_Shown):
    """A page's JSON twin."""

    def prepare(self) -> None:
        _Handler.prepare(self)
        given = self.request.headers.get("Authorization", "")
        if not self.may_read() and not self.site.access.fits(given.removeprefix("Bearer ").strip()):
            self.set_header("WWW-Authenticate", "Bearer")
            error = errors.Refused("Only who has the token may read this.", hint="Authorization: Bearer TOKEN")
            self.document(document.of_error(error), 401)

    def document(self, found: dict[str, object], status: int = 200) -> None:
        """Answer with a document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish(document.text(found).encode("utf-8", "surrogatepass"))

    def tell(self, found: Overview | RunView | Away) -> None:
        """Answer with what was read."""
        if isinstance(found, Away):
            self.document(document.of_away(found), 503)
        elif isinstance(found, RunView):
            self.document(document.of_run(found))
        else:
            self.document(document.of_overview(found))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        message = _title(status_code)
        if isinstance(error, web.HTTPError) and error.log_message:
            message = error.log_message % error.args
        found = (errors.NotFound if status_code == 404 else errors.HAL9Error)(message)
        self.document(document.of_error(found), status_code)


class OverviewJson(_Json):
    """Where everything stands, as JSON."""

    async def get(self) -> None:
        self.tell(await self.overview())


class RunJson(_Json):
    """A run, as JSON."""

    async def get(self, number: str) -> None:
        self.tell(await self.run(number))


class Metrics(_Json):
    """What monitoring reads; a token is given as of the documents."""

    async def get(self) -> None:
        found = await self.site.aside(self.site.reader.overview)
        beside = await self.site.aside(self.site.reader.figures) if isinstance(found, Overview) else found
        self.set_header("Content-Type", metrics.CONTENT_TYPE)
        # Also of a ledger that is away there is something to tell.
        self.finish(metrics.text(found, beside))


class Health(_Handler):
    """Whether this process answers; it says nothing of anything else, and to everybody."""

    def prepare(self) -> None:
        """Let in who asks by any name, as something that looks after containers does."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish("ok\n")

    head = get


class Asset(_Handler):
    """The style, the script and the icon."""

    def get(self, name: str) -> None:
        # Their address changes with their content.
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.set_header("Content-Type", f"{ASSETS[name]}; charset=UTF-8")
        self.finish(self.site.pages.assets[name])


class Nowhere(_Handler):
    """Any other address."""

    def prepare(self) -> None:
        super().prepare()
        raise web.HTTPError(404, "There is no such page.")

    def check_xsrf_cookie(self) -> None:
        """Let it be said whatever was sent."""


def application(site: Site) -> web.Application:
    """Return what answers at each address."""
    orders = "|".join(model.RunOrder)
    shared = {"site": site}
    return web.Application(
        [
            (r"/", OverviewPage, shared),
            (r"/run/(\d{1,18})", RunPage, shared),
            (rf"/run/(\d{{1,18}})/({orders})", Order, shared),
            (r"/login", Login, shared),
            (r"/logout", Logout, shared),
            (r"/api/status", OverviewJson, shared),
            (r"/api/run/(\d{1,18})", RunJson, shared),
            (r"/metrics", Metrics, shared),
            (r"/healthz", Health, shared),
            (rf"/assets/({'|'.join(ASSETS)})", Asset, shared),
        ],
        default_handler_class=Nowhere,
        default_handler_args=shared,
        cookie_secret=site.access.cookie_secret,
        xsrf_cookies=True,
        xsrf_cookie_name=f"{site.cookie}_form",
        xsrf_cookie_kwargs={"httponly": True, "samesite": "Strict"},
        log_function=_logged,
    )


def _logged(handler: web.RequestHandler) -> None:
    """Log what went wrong; that a server is away the reader tells once, and not for each page."""
    status, request = handler.get_status(), handler.request
    if status >= 500 and status != 503:
        log.warning("%s %s: %d", request.method, request.path, status)
