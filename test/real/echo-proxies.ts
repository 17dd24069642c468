export interface ProxyPlace {
  readonly port: number;
  /** Where it sends what it is asked. */
  readonly origin: number;
  readonly folder: string;
}

export interface ProxyConfig {
  readonly config: (place: ProxyPlace) => string;
  readonly args: (file: string, folder: string) => readonly string[];
}

/** Proxies in the foreground, by the program's name: each passes everything on as it came, Host included. */
export const PROXY_CONFIGS: Readonly<Record<string, ProxyConfig>> = {
  nginx: {
    args: (file, folder) => ["-p", folder, "-c", file],
    config: ({ port, origin, folder }) => `
daemon off; worker_processes 1; pid ${folder}/pid; error_log /dev/null;
events {}
http {
  access_log off; client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f;
  uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s; client_max_body_size 0;
  upstream origin { server 127.0.0.1:${origin}; keepalive 8; }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://origin; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
    }
  }
}`,
  },
  haproxy: {
    args: (file) => ["-f", file],
    config: ({ port, origin }) => `
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend in
  bind 127.0.0.1:${port}
  default_backend origin
backend origin
  http-reuse always
  server one 127.0.0.1:${origin}
`,
  },
  caddy: {
    args: (file) => ["run", "--adapter", "caddyfile", "--config", file],
    config: ({ port, origin }) => `{
  admin off
  auto_https off
  log default {
    output discard
  }
}
http://127.0.0.1:${port}, http://gw.tail.test:${port}, http://:${port} {
  reverse_proxy 127.0.0.1:${origin}
}
`,
  },
  apache2: {
    args: (file) => ["-X", "-f", file],
    config: ({ port, origin, folder }) => `
ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${folder}/pid
ServerName gw.tail.test
Listen 127.0.0.1:${port}
ErrorLog /dev/null
${["mpm_event", "authz_core", "proxy", "proxy_http"].map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join("\n")}
MaxKeepAliveRequests 0
KeepAliveTimeout 60
AllowEncodedSlashes NoDecode
MergeSlashes Off
ProxyPreserveHost On
ProxyPass / http://127.0.0.1:${origin}/ nocanon
`,
  },
  lighttpd: {
    args: (file) => ["-D", "-f", file],
    config: ({ port, origin }) => `
server.modules = ("mod_proxy")
server.document-root = "/nonexistent"
server.bind = "127.0.0.1"
server.port = ${port}
server.errorlog = "/dev/null"
server.max-keep-alive-requests = 100000
server.http-parseopts = ("url-normalize" => "disable")
proxy.server = ("" => (("host" => "127.0.0.1", "port" => ${origin})))
`,
  },
  h2o: {
    args: (file) => ["-m", "worker", "-c", file],
    config: ({ port, origin }) => `
listen: { host: 127.0.0.1, port: ${port} }
num-threads: 1
error-log: /dev/null
hosts:
  default:
    paths:
      "/":
        proxy.reverse.url: "http://127.0.0.1:${origin}/"
        proxy.preserve-host: ON
        proxy.timeout.keepalive: 10000
`,
  },
  nghttpx: {
    args: (file) => ["--conf", file],
    config: ({ port, origin, folder }) => `
frontend=127.0.0.1,${port};no-tls
backend=127.0.0.1,${origin}
workers=1
single-process=yes
single-thread=yes
accesslog-file=/dev/null
errorlog-file=/dev/null
pid-file=${folder}/pid
`,
  },
};
