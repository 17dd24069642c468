#!/bin/sh
# A CGI program that knows its callers. Its web server listens where nobody but the gateway can connect.
# CGI turns every punctuation mark of a header's name into "_": the gateway has removed all names that could collide.
quoted() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }

if [ -z "${HTTP_SALLYPORT_CALLER_KIND:-}" ]; then
  printf 'Status: 403 Forbidden\r\nContent-Type: application/json\r\n\r\n{"error":"not through the gateway"}'
  exit 0
fi
printf 'Content-Type: application/json\r\n\r\n'
# The capabilities are ASCII JSON as they stand; the name is shown as it came (RFC 2047 words where it is not ASCII).
printf '{"kind":"%s","login":"%s","name":"%s","capabilities":%s}' \
  "$(quoted "$HTTP_SALLYPORT_CALLER_KIND")" "$(quoted "${HTTP_TAILSCALE_USER_LOGIN:-}")" \
  "$(quoted "${HTTP_TAILSCALE_USER_NAME:-}")" "${HTTP_TAILSCALE_APP_CAPABILITIES:-"{}"}"
