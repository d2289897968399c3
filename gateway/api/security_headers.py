"""Headers that limit what an answer may do in a browser: every answer over HTTP carries them."""

from __future__ import annotations

Headers = list[tuple[bytes, bytes]]

BARE: Headers = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
"""For answers that are data."""

# The web page compiles its templates in the browser, and has its start as a script in the page.
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
PAGE: Headers = [(b"content-security-policy", _PAGE_POLICY), *BARE[1:]]
"""For pages: everything comes from the gateway itself, and no other page may frame them."""

OVER_TLS: Headers = [(b"strict-transport-security", b"max-age=31536000")]


def with_secure_cookies(headers: Headers) -> Headers:
    """Return headers whose cookies travel over TLS only."""
    return [
        (name, value + b"; Secure" if name == b"set-cookie" and b"; secure" not in value.lower() else value)
        for name, value in headers
    ]
