/** Where a proxy listens, what it asks, and what it writes to. */
export interface ProxySetup {
  readonly port: number;
  readonly securePort: number;
  /** Port on loopback. */
  readonly backend: number;
  /** The same with TLS; all that begins with `/tls/` goes there. */
  readonly secureBackend: number;
  /** Key and certificate in one file. */
  readonly pem: string;
  readonly scratch: string;
}

/** What answers on the load's core: 1 KiB from memory, 64 KiB from the page cache. */
export function nginxBackend(port: number, scratch: string, secure?: SecureBackend): string {
  return `${nginxFrame(scratch, "backend")}
http {
  ${nginxHttp(scratch, "backend")}
  server {
    listen 127.0.0.1:${port};
    ${secure === undefined ? "" : nginxTls(secure)}
    location ~ /1k$ { return 200 "${"x".repeat(1024)}"; }
    location / { root ${scratch}/www; }
  }
}
`;
}

export function nginxProxy({ port, securePort, backend, secureBackend, pem, scratch }: ProxySetup): string {
  return `${nginxFrame(scratch, "proxy")}
http {
  ${nginxHttp(scratch, "proxy")}
  upstream backend { server 127.0.0.1:${backend}; keepalive 256; }
  server {
    listen 127.0.0.1:${port};
    listen 127.0.0.1:${securePort} ssl http2;
    ssl_certificate ${pem}; ssl_certificate_key ${pem}; ssl_protocols TLSv1.3;
    location / {
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
    # As nginx has it by itself: a connection for each request.
    location /post/ { proxy_pass http://127.0.0.1:${backend}; }
    location /tls/ { proxy_pass https://127.0.0.1:${secureBackend}; }
  }
}
`;
}

export function haproxyConfig({ port, securePort, backend, secureBackend, pem }: ProxySetup): string {
  return `global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  http-reuse always
  option forwardfor
frontend f
  bind 127.0.0.1:${port}
  bind 127.0.0.1:${securePort} ssl crt ${pem} alpn h2,http/1.1 ssl-min-ver TLSv1.3
  use_backend t if { path_beg /tls/ }
  default_backend b
backend b
  server s 127.0.0.1:${backend}
backend t
  server s 127.0.0.1:${secureBackend} ssl verify none
`;
}

export function caddyConfig({ port, securePort, backend, secureBackend, pem }: ProxySetup): string {
  const host = "gw.bench.test";
  return `{
  admin off
  auto_https off
}
http://${host}:${port} {
  handle /tls/* {
    reverse_proxy https://127.0.0.1:${secureBackend} {
      transport http {
        tls_insecure_skip_verify
      }
    }
  }
  handle {
    reverse_proxy 127.0.0.1:${backend}
  }
}
https://${host}:${securePort} {
  tls ${pem} ${pem}
  reverse_proxy 127.0.0.1:${backend}
}
`;
}

interface SecureBackend {
  readonly port: number;
  readonly pem: string;
}

/** TLS 1.2, too: by itself nginx asks a backend for no later one. */
function nginxTls({ port, pem }: SecureBackend): string {
  return `listen 127.0.0.1:${port} ssl;
    ssl_certificate ${pem}; ssl_certificate_key ${pem}; ssl_protocols TLSv1.2 TLSv1.3;`;
}

function nginxFrame(scratch: string, name: string): string {
  return `daemon off; master_process off; user root; pid ${scratch}/${name}.pid; error_log ${scratch}/${name}.log;
events { worker_connections 4096; }`;
}

function nginxHttp(scratch: string, name: string): string {
  const folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `access_log off; keepalive_requests 100000000; sendfile on; tcp_nodelay on; default_type text/plain;
  ${folders.map((folder) => `${folder}_temp_path ${scratch}/${name}-${folder};`).join(" ")}`;
}
