export const ROOT_USAGE: string = `A gate for a private mesh: backends learn who calls.

USAGE
  sallyport [--socket=PATH] <command> [flags] [arguments]

COMMANDS
  run       Run the gateway
  check     Check a services file
  serve     Serve a local server, files or text to the mesh
  funnel    Serve to the internet
  status    Show this node, its peers and their state
  inspect   Look at the last requests on a local page
  doors     Show doors before what is served, invite guests, end sessions
  whois     Show who is behind an address of the mesh
  whoami    Show what others see of this node
  ping      Ping a node and show the path
  ip        Show addresses of this node or of a peer
  up        Connect, logging in if needed
  down      Disconnect
  logout    Disconnect and forget this node's key
  set       Change settings
  netcheck  Show what is known of the network under this node
  bugreport Print what helps to find a fault
  health    Say whether the gateway does its work
  metrics   Print metrics in Prometheus' format
  cert      Get TLS certificates, and see how they are
  ca        Print the local CA's certificate
  jwks      Print the keys of signed assertions
  server    Run a coordination server
  ingress   Run Funnel's public end
  policy    Check, test or explain a policy file
  demo      Run a whole mesh on this machine
  version   Show the version
  help      Show this text

FLAGS
  --socket PATH  the gateway's socket (default: $SALLYPORT_SOCKET, else one in the runtime directory)
`;

const FUNNEL_FLAGS = `  --check[=false]            go a visitor's way afterwards and show each hop (on a terminal: always)
  --door NAME                put a door of the services file before this path and what is below it
  --public                   anyone may come: do not ask
  --allow-ip A,B             visitors from these addresses and blocks alone; all: from everywhere
  --deny-ip A,B              and not from these
  --domain NAME              under a name of your own that the policy grants, instead of this node's
  --lease PORT               a raw public port that the policy grants: for ssh, games, databases, whatever speaks no TLS
`;

export function serveUsage(command: "serve" | "funnel"): string {
  const where = command === "serve" ? "on your tailnet" : "on the internet";
  const node = command === "serve";
  return `Serve content and local servers ${where}

USAGE
  sallyport ${command} [flags] <target>
  sallyport ${command} [flags] [<target>] off
  sallyport ${command} status [--json]
  sallyport ${command} reset
${command === "funnel" ? "  sallyport funnel check [--help]\n" : ""}${node ? "  sallyport serve advertise|drain|clear svc:NAME\n" : ""}
<target> is a port (3000), a partial or full URL (localhost:3000, https+insecure://localhost:8443/base), unix:PATH,
an absolute path of a file or directory, or text:TEXT. With --tcp and --tls-terminated-tcp: a port, tcp://host:port or unix:PATH.
Flags come before the target.

FLAGS
  --bg                       keep serving after this command ends
  --https PORT               HTTPS listener (the default, on 443)
${node ? "  --http PORT                plain HTTP listener\n" : ""}  --tcp PORT                 forward TCP
  --tls-terminated-tcp PORT  end TLS here, forward TCP
  --set-path PATH            mount point of a web target
  --proxy-protocol VERSION   1 or 2, for the TCP types
${node ? "  --accept-app-caps A,B      capabilities that the backend learns, {domain}/{name}\n  --service svc:NAME         of a service that the network has given addresses; always in the background\n" : FUNNEL_FLAGS}  --yes                      do not ask before removing several mounts
`;
}
