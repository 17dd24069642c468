import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { silentLog } from "../../src/base/log.ts";
import { type LocalApiBackend, openLocalApi } from "../../src/gateway/localapi/index.ts";
import { EMPTY_PREFS, type IpnStatus, type PeerStatus } from "../../src/wire/ipn.ts";

/** Of a gateway that runs, where nothing else is said. */
export const gatewayStatus = ({
  Self,
  ...more
}: Partial<Omit<IpnStatus, "Self">> & { readonly Self?: Partial<PeerStatus> } = {}): IpnStatus => ({
  Version: "1",
  TUN: false,
  BackendState: "Running",
  AuthURL: "",
  TailscaleIPs: [],
  Self: { ID: "1", HostName: "gw", DNSName: "gw.t.", OS: "linux", UserID: 1, TailscaleIPs: [], ...Self },
  Health: [],
  MagicDNSSuffix: "t",
  CurrentTailnet: null,
  Peer: null,
  User: null,
  ...more,
});

/** A gateway that runs, serves nothing, knows nobody, and does nothing that it is told. */
export const idleGateway: LocalApiBackend = {
  status: async () => gatewayStatus(),
  serveConfig: () => ({ config: null, etag: "" }),
  setServeConfig: async () => undefined,
  whois: async () => undefined,
  ping: async () => {
    throw new Error("no netmap");
  },
  prefs: () => EMPTY_PREFS,
  editPrefs: async () => EMPTY_PREFS,
  start: async () => undefined,
  loginInteractive: async () => undefined,
  logout: async () => undefined,
  watch: (_mask, onNotify) => {
    onNotify({ State: 6 });
    return { session: "9f2c41d07be3a856", close: () => undefined };
  },
  queryFeature: async () => ({ Complete: true }),
};

export interface LocalSocket extends AsyncDisposable {
  readonly path: string;
  close(): Promise<void>;
}

/** The local interface of such a gateway, in a folder of its own. */
export async function openLocalSocket(backend: LocalApiBackend): Promise<LocalSocket> {
  const folder = mkdtempSync(path.join(tmpdir(), "sp-"));
  const socketPath = path.join(folder, "gate.sock");
  const api = await openLocalApi({ socketPath, backend, log: silentLog });
  const close = async (): Promise<void> => {
    await api.close();
    rmSync(folder, { recursive: true, force: true });
  };
  return { path: socketPath, close, [Symbol.asyncDispose]: close };
}
