"""CORS (packaging/docs/policies.md): preflight requests are weir's to answer, responses say
who may read them, and nobody else's word counts."""
import pytest

from harness.backend import reply

APP = "https://app.example"
SHARED_CONF = {
    "policies": {
        "app": {"cors": {"origins": [APP, "https://*.wild.example"],
                         "methods": ["PUT", "DELETE"], "headers": ["Content-Type", "X-Token"],
                         "expose": ["X-Total"], "credentials": True, "max_age": "5m"}},
        "any": {"cors": {"origins": "*", "headers": "*", "expose": "*"}},
        "bare": {"cors": {"origins": [APP]}},
    },
    "pools": {"none": {"endpoints": ["127.0.0.1:1"]}},
    "routes": [
        {"name": "root", "prefix": "/", "pool": "app"},
        {"name": "api", "prefix": "/api", "methods": ["GET", "PUT"], "pool": "app",
         "policies": ["app"]},
        {"name": "any", "prefix": "/any", "pool": "app", "policies": ["app", "any"]},
        {"name": "bare", "prefix": "/bare", "pool": "app", "policies": "bare"},
        {"name": "down", "prefix": "/down", "pool": "none", "policies": ["app"]},
        {"name": "fixed", "prefix": "/fixed", "policies": ["app"], "respond": {"body": "x"}},
    ],
}


def preflight(pair, path, origin=APP, method="PUT", fields=()):
    sent = ["Origin: " + origin, "Access-Control-Request-Method: " + method, *fields]
    return pair.client().request("OPTIONS", path, sent)


def cors(response):
    return {name.decode().lower().removeprefix("access-control-"): value.decode()
            for name, value in response.fields
            if name.lower().startswith(b"access-control-") or name.lower() == b"vary"}


def test_preflight(pair):
    """Answered without the pool; by the route of the method that is asked for."""
    response = preflight(pair, "/api/x")
    assert response.status == 204 and response.body == b""
    assert cors(response) == {"allow-origin": APP, "allow-credentials": "true", "max-age": "300",
                              "allow-methods": "PUT, DELETE",
                              "allow-headers": "Content-Type, X-Token", "vary": "Origin"}
    record = pair.logged(path="/api/x", status=204, end="ok", method="OPTIONS")
    assert record["http.route"] == "api" and not pair.backend.requests


def test_preflight_that_meets_a_limit(weir, backend):
    """The route of the asked method could not be found out: nobody else answers in its place."""
    proxy = weir({"routes": [
        {"name": "options", "methods": ["OPTIONS"], "pool": "app"},
        {"name": "put", "pool": "app", "headers": [{"name": "X-Q", "regex": "^[^=]*;[^=]*=1$"}]}]},
        backend)
    fields = ["Origin: " + APP, "Access-Control-Request-Method: PUT"]
    assert proxy.request("OPTIONS", "/", fields + ["X-Q: " + ";" * 9000]).status == 400
    proxy.ended("proxy.limit.regex")
    assert proxy.request("OPTIONS", "/", fields + ["X-Q: ;x"]).status == 200


def test_preflight_keeps_the_connection(pair):
    conn = pair.client()
    for _ in range(3):
        assert conn.request("OPTIONS", "/api", ["Origin: " + APP,
                                                "Access-Control-Request-Method: GET"]
                            ).status == 204


def test_preflight_of_any(pair):
    """The later policy's cors counts, whole."""
    assert cors(preflight(pair, "/any", "https://who.example")) == {
        "allow-origin": "*", "allow-headers": "*", "max-age": "600", "vary": "Origin"}
    assert cors(preflight(pair, "/bare")) == {"allow-origin": APP, "max-age": "600",
                                              "vary": "Origin"}


REFUSED = ["https://evil.example", "null", "http://app.example", "https://app.example:8443",
           "https://wild.example", "https://evil.example/.wild.example", "https://APP.example"]


@pytest.mark.parametrize("origin", REFUSED)
def test_other_origins(pair, origin):
    response = preflight(pair, "/api", origin)
    assert response.status == 403 and cors(response) == {"vary": "Origin"}
    assert not pair.backend.requests
    pair.ended("proxy.cors", status=403)
    pair.backend.on("/api", reply(200, b"x", ["Access-Control-Allow-Origin: *"]))
    response = pair.client().get("/api", ["Origin: " + origin])
    assert response.status == 200 and cors(response) == {"vary": "Origin"}


def test_null_is_not_any(pair):
    assert preflight(pair, "/any", "null").status == 403
    assert cors(pair.client().get("/any", ["Origin: null"])) == {"vary": "Origin"}


@pytest.mark.parametrize("origin", [APP, "https://a.wild.example", "https://a.b.wild.example"])
def test_response(pair, origin):
    sent = ["Access-Control-Allow-Origin: https://evil.example", "Vary: Accept", "X-Total: 5",
            "Access-Control-Expose-Headers: X-Secret"]
    pair.backend.on("/api", reply(200, b"x", sent))
    response = pair.client().get("/api", ["Origin: " + origin])
    assert response.all("access-control-allow-origin") == [origin]
    assert response.all("access-control-expose-headers") == ["X-Total"]
    assert response.all("access-control-allow-credentials") == ["true"]
    assert response.all("vary") == ["Accept", "Origin"] and response.all("x-total") == ["5"]
    assert pair.backend.last.all("origin") == [origin]


def test_vary_without_an_origin(pair):
    """A cache must not keep this one for a request that has an Origin."""
    assert cors(pair.client().get("/api")) == {"vary": "Origin"}


@pytest.mark.parametrize("path,status", [("/down", 502), ("/fixed", 200)])
def test_weirs_own_responses(pair, path, status):
    response = pair.client().get(path, ["Origin: " + APP])
    assert response.status == status
    assert cors(response) == {"allow-origin": APP, "allow-credentials": "true",
                              "expose-headers": "X-Total", "vary": "Origin"}


def test_other_options_requests_are_forwarded(pair):
    """Without cors, or when it is no preflight."""
    assert preflight(pair, "/plain").status == 200
    assert pair.client().request("OPTIONS", "/any").status == 200
    assert pair.client().request("OPTIONS", "/any", ["Origin: " + APP]).status == 200
    assert [r.method for r in pair.backend.requests] == ["OPTIONS"] * 3
    assert pair.client().request("OPTIONS", "/api", ["Origin: " + APP]).status == 200
    assert pair.logged(path="/api", method="OPTIONS")["http.route"] == "root"


def test_preflight_for_a_method_of_another_route(pair):
    """DELETE /api is the root route's, which has no cors: it is the pool's to answer."""
    assert preflight(pair, "/api", method="DELETE").status == 200
    assert pair.backend.last.method == "OPTIONS"
