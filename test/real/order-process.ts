/** Run by pebble-kill.test.ts: gets one certificate with all that a gateway has for it, and kills itself at a step. */
import { subscribe } from "node:diagnostics_channel";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openAuthority } from "../../src/certs/acme/acme-authority.ts";
import { openKeeper } from "../../src/certs/open-keeper.ts";
import type { CertificateStore } from "../../src/certs/store/certificate-store.ts";
import { fileCertificateStore } from "../../src/certs/store/file-store.ts";
import { txtSolver } from "./txt-solver.ts";

export interface OrderProcessOptions {
  readonly folder: string;
  readonly directory: string;
  readonly caBundle: string;
  readonly dnsManagement: string;
  readonly name: string;
  /** Of the requests, answers and writes, from 1; none: all the way. */
  readonly killAt: number | undefined;
}

const { folder, directory, caBundle, dnsManagement, name, killAt } = JSON.parse(
  process.argv[2]!,
) as OrderProcessOptions;
let steps = 0;

function step(): void {
  if (++steps === killAt) process.kill(process.pid, "SIGKILL");
}

function stepped(store: CertificateStore): CertificateStore {
  return {
    ...store,
    async write(path, value, lease) {
      step();
      await store.write(path, value, lease);
      step();
    },
    async delete(path, lease) {
      step();
      await store.delete(path, lease);
      step();
    },
  };
}

setInterval(() => {}, 60_000); // timers of our clock do not keep a process alive; a gateway has sockets that do
subscribe("undici:request:create", step);
subscribe("undici:request:trailers", step);
const around = { clock: systemClock, random: systemRandom, log: silentLog };
const store = stepped(await fileCertificateStore(folder, around));
const authority = openAuthority({ ...around, id: "pebble", directory, caBundle, store, agreeToTerms: true });
const solvers = [txtSolver(dnsManagement)];
const keeper = await openKeeper({ ...around, store, authorities: [authority], solvers });
await keeper.want([{ names: [name], when: "needed" }]);
const certificate = keeper.certificate(name) ?? (await keeper.renew(name)); // by hand: a back-off does not hold it up
await keeper.close();
process.stdout.write(JSON.stringify({ steps, certificate }));
process.exit(0);
