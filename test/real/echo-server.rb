# What echo-server.py is, in Ruby: `echo-server.rb webrick|puma`.
require "digest"
require "socket"

FIELDS = %w[host cookie x x-forwarded-for tailscale-user-login].freeze
LOG = []
LOCK = Mutex.new

def entry(method, target, body, &value)
  return LOCK.synchronize { LOG.slice!(0..).join("\n") } if target == "/log"
  fields = FIELDS.map { |name| "#{name}=#{value.(name)}" }.join("|")
  line = "#{method} #{target} |#{fields} #{body.bytesize}:#{Digest::SHA1.hexdigest(body)}".b
  LOCK.synchronize { LOG << line }
  line
end

def ready(port)
  puts port
  $stdout.flush
end

def run_webrick
  require "webrick"
  server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: 0, AccessLog: [], Logger: WEBrick::Log.new(File::NULL))
  server.define_singleton_method(:service) do |request, response|
    target = request.unparsed_uri
    body = target.start_with?("/ignored") ? "" : request.body || ""
    response.status = 200
    response.body = entry(request.request_method, target, body) { |name| request.header[name].join(",") }
  end
  ready(server.listeners.first.addr[1])
  server.start
end

def run_puma
  require "puma"
  require "puma/server"
  app = lambda do |env|
    target = env["REQUEST_URI"]
    body = target.start_with?("/ignored") ? "" : env["rack.input"].read
    text = entry(env["REQUEST_METHOD"], target, body) do |name|
      key = name.upcase.tr("-", "_")
      env["HTTP_#{key}"]
    end
    [200, { "Content-Length" => text.bytesize.to_s }, [text]]
  end
  events = Puma::Events.strings
  server = Puma::Server.new(app, events, min_threads: 8, max_threads: 8)
  port = server.add_tcp_listener("127.0.0.1", 0).addr[1]
  ready(port)
  server.run.join
end

send("run_#{ARGV.fetch(0)}")
