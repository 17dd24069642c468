import tls, { type TLSSocket } from "node:tls";
import { afterEach, expect, test } from "vitest";
import {
  ask,
  cookieOf,
  type DoorScene,
  door,
  doorScene,
  enter,
  MACHINE_TOKEN,
  ORIGIN,
} from "../../test/suites/door-scene.ts";
import { ALICE, certificateOf, closeScenes, GATE, onClose } from "../../test/suites/proxy-scene.ts";
import { certificateDigest, createClientCertificate } from "../certs/self-signed.ts";

afterEach(closeScenes);

const HOUR = 3_600_000;
const ISSUER = "https://id.example.com";
const CAROL = { door: "friends", name: "Carol", lifeMs: HOUR, isOnce: false };

/** How somebody comes in: fields of the requests, and a certificate. */
interface Way {
  readonly fields?: readonly string[];
  readonly shown?: { readonly key: string; readonly cert: string };
  readonly isMember?: boolean;
}

const WAYS: Readonly<Record<string, (scene: DoorScene) => Promise<Way>>> = {
  nobody: async () => ({}),
  "a member": async (scene) => {
    scene.caller = ALICE;
    return { isMember: true };
  },
  "a guest by password": async (scene) => ({ fields: [`Cookie: ${await enter(scene)}`] }),
  "a guest by link": async (scene) => {
    const { token } = await scene.keeper.passes.create(CAROL);
    const entered = await ask(scene, `/.sallyport/door/friends/link/${token}`, { form: {} });
    return { fields: [`Cookie: ${cookieOf(entered)}`] };
  },
  "a guest by certificate": async (scene) => {
    const { certificate, key } = await createClientCertificate("Carol", Date.now() + HOUR, Date.now());
    await scene.keeper.passes.add(CAROL, "certificate", certificateDigest(certificate));
    return { shown: { key, cert: certificate } };
  },
  "a guest as a user": async ({ keeper }) => {
    const guest = { issuer: ISSUER, subject: "7", mail: "carol@example.com" };
    const token = keeper.sessions.start("friends", guest, "198.51.100.7", { idleMs: HOUR, longestMs: HOUR });
    return { fields: [`Cookie: __Host-sallyport-friends=${token}`] };
  },
  "a machine": async () => ({ fields: [`Sallyport-Door-Token: ${MACHINE_TOKEN}`] }),
};

const CHANGES: Readonly<Record<string, (scene: DoorScene) => Promise<unknown>>> = {
  "nothing changes": async () => undefined,
  "the door is read again, as it was": async ({ keeper }) => keeper.setDoors([await door()]),
  "a door is put there": async ({ place }) => {
    place.rules = { door: "friends" };
  },
  "the door is taken away": async ({ place }) => {
    place.rules = {};
  },
  "no provider says who is a user there": async ({ place }) => {
    place.rules = { door: "friends" };
  },
  "another door of the same secrets stands there": async ({ keeper, place }) => {
    keeper.setDoors([await door(), await door({ name: "staff" })]);
    place.rules = { door: "staff" };
  },
  "the door has other secrets": async ({ keeper }) => keeper.setDoors([await door({ version: "2" })]),
  "the door is gone": async ({ keeper }) => keeper.setDoors([]),
  "the door stops everyone": async ({ keeper }) => keeper.setDoors([await door({ version: "2", stops: "everyone" })]),
  "all passes are taken back": async ({ keeper }) => {
    for (const { id } of keeper.passes.list()) await keeper.removePass(id);
  },
};

const UPGRADE = [
  ...["GET /ws HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
  ...["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", `Origin: ${ORIGIN}`],
];

/** An answer that goes on, and a WebSocket. */
async function streams(scene: DoorScene, way: Way): Promise<readonly TLSSocket[]> {
  const { cert } = await certificateOf(GATE);
  const opened = [["GET / HTTP/1.1"], UPGRADE].map(async (head) => {
    const socket = (way.isMember === true ? scene.connectMember : scene.connect)(443);
    const secure = tls.connect({ socket, servername: GATE, ca: cert, ...way.shown });
    secure.on("error", () => undefined);
    onClose(() => secure.destroy());
    let heard = "";
    secure.on("data", (bytes: Buffer) => {
      heard += bytes.toString("latin1");
    });
    secure.write([...head, `Host: ${GATE}`, ...(way.fields ?? []), "", ""].join("\r\n"));
    await expect.poll(() => heard, { timeout: 30_000, interval: 2 }).toMatch(/^HTTP\/1\.1 (?:200|101) .*\r\n\r\n/s);
    return secure;
  });
  return Promise.all(opened);
}

test.each<[who: string, change: string, isCut: boolean, hadDoor?: boolean]>([
  ["nobody", "nothing changes", false, false],
  ["nobody", "a door is put there", true, false],
  ["a member", "a door is put there", false, false],
  ["a member", "the door has other secrets", false],
  ["a member", "the door stops everyone", true],
  ["a member", "the door is gone", true],
  ["a guest by password", "the door is read again, as it was", false],
  ["a guest by password", "the door is taken away", false],
  ["a guest by password", "another door of the same secrets stands there", true],
  ["a guest by password", "the door has other secrets", true],
  ["a guest by password", "all passes are taken back", false],
  ["a guest by link", "nothing changes", false],
  ["a guest by link", "all passes are taken back", true],
  ["a guest by link", "another door of the same secrets stands there", true],
  ["a guest by certificate", "the door is read again, as it was", false],
  ["a guest by certificate", "all passes are taken back", true],
  ["a guest by certificate", "the door is gone", true],
  ["a guest as a user", "nothing changes", false],
  ["a guest as a user", "no provider says who is a user there", true],
  ["a guest by password", "no provider says who is a user there", false],
  ["a machine", "the door is read again, as it was", false],
  ["a machine", "the door has other secrets", true],
  ["a machine", "another door of the same secrets stands there", true],
  ["a machine", "the door is gone", true],
])("V10 what %s has open when %s is cut: %j", async (who, change, isCut, hadDoor = true) => {
  const rules = { guestsAsUsers: ISSUER };
  const scene = await doorScene({ answer: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin", rules });
  if (!hadDoor) scene.place.rules = {};
  const open = await streams(scene, await WAYS[who]!(scene));
  await CHANGES[change]!(scene);
  scene.proxy.review();
  const areOver = (): boolean => open.every(({ readableEnded, destroyed }) => readableEnded || destroyed);
  if (isCut) await expect.poll(areOver, { timeout: 30_000, interval: 2 }).toBe(true);
  else {
    await ask(scene, "/text"); // by then whatever was cut has gone
    expect(open.map(({ readableEnded, destroyed }) => readableEnded || destroyed)).toEqual([false, false]);
  }
});
