# What is mended in Ray's HAProxy configuration (ray.serve._private.haproxy_templates), which has no place for additions.

# Ray binds the statistics to all interfaces, whatever the host; here they stay on the machine.
/^frontend http_frontend/,/^backend/! s/^( *bind) [*]?:/\1 127.0.0.1:/

# As many connections as this machine has files for, where Ray says 4096.
s/^( *)maxconn [0-9]+$/\1maxconn "${CLINSERVE_PROXY_MOST}"/

# The API. HTTP/1 only: 100 streams of HTTP/2 in one connection would count as one.
/^frontend http_frontend/,/^backend/ {
  s/^( *)bind (.*):([0-9]+) *$/\1bind "${CLINSERVE_PROXY_HOST-\2}:\3" proto h1/
  /^ *bind /r @HERE@/door.cfg
}

# Its commands stop the proxy, and Ray lets every user of the machine give them.
s/^( *stats socket .*) mode 666 /\1 mode 600 /

# A client's place, after whatever it wrote into X-Forwarded-For itself: keys may be bound to networks.
/option forwardfor/d
s/^( *)option httplog *$/&\n\1option forwardfor/

# Without a gateway, as in the first seconds of an HAProxy, Ray has it say 404 or 500. Clients give up at the one, and
# with either do not learn when to come back.
s#^( *)http-request return status 404 .*"Path .*#\1http-request return status 503 content-type @WAIT@#
/^ *http-error status/d
s#^( *)errorfile (50[234]) .*#\1http-error status \2 content-type @WAIT@#
