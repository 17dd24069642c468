/** Where a proxy listens, what it asks, and what it writes to. */
export interface ProxySetup {
  readonly port: number;
  readonly securePort: number;
  /** Port on loopback. */
  readonly backend: number;
  /** Key and certificate in one file. */
  readonly pem: string;
  readonly scratch: string;
}

/** What answers on the load's core: 1 KiB from memory, 64 KiB from the page cache. */
export function nginxBackend(port: number, scratch: string): string {
  return `${nginxFrame(scratch, "backend")}
http {
  ${nginxHttp(scratch, "backend")}
  server {
    listen 127.0.0.1:${port};
    location = /1k { return 200 "${"x".repeat(1024)}"; }
    location / { root ${scratch}/www; }
  }
}
`;
}

export function nginxProxy({ port, securePort, backend, pem, scratch }: ProxySetup): string {
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
  }
}
`;
}

export function haproxyConfig({ port, securePort, backend, pem }: ProxySetup): string {
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
  default_backend b
backend b
  server s 127.0.0.1:${backend}
`;
}

export function caddyConfig({ port, securePort, backend, pem }: ProxySetup): string {
  const host = "gw.bench.test";
  return `{
  admin off
  auto_https off
}
http://${host}:${port} {
  reverse_proxy 127.0.0.1:${backend}
}
https://${host}:${securePort} {
  tls ${pem} ${pem}
  reverse_proxy 127.0.0.1:${backend}
}
`;
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
