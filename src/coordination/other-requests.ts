import { messageOf } from "../base/fault.ts";
import { FUNNEL_ATTRIBUTE } from "../wire/funnel.ts";
import { setOwnAttributes } from "./attributes.ts";
import { certificateNames, noteCertified } from "./certificate-names.ts";
import type { Core } from "./core.ts";
import { nodeOf } from "./map-requests.ts";
import { ANSWER_PATH } from "./node-questions.ts";
import type { NodeRecord } from "./records.ts";

interface Answer {
  status: number;
  body?: unknown;
}

const NOT_IMPLEMENTED: ReadonlySet<string> = new Set(["/machine/id-token", "/machine/whoami", "/machine/c2n"]);
const MOST_DETAIL = 500;
const SSH_ACTION = "/machine/ssh/action/";
/** A `check` rule asks for a fresh sign-in, which this server cannot demand: it never means less than that. */
const SSH_REFUSED = {
  reject: true,
  message: 'Refused: the policy wants a fresh sign-in here (action "check"), which this server does not offer.\r\n',
};

/** Requests inside the channel besides register and map (control-protocol §2.9). */
export async function answerOther(
  core: Core,
  machineKey: string,
  method: string,
  path: string,
  body: unknown,
): Promise<Answer> {
  const members = typeof body === "object" && body !== null ? (body as Readonly<Record<string, unknown>>) : {};
  // Ignored by every client that sends it (upstream up to 1.88).
  if (path === "/machine/update-health") return { status: 204 };
  if (NOT_IMPLEMENTED.has(path) || path.startsWith("/machine/tka/") || path.startsWith("/machine/webclient/")) {
    return { status: 501, body: "Not implemented yet\n" };
  }
  if (path.startsWith(ANSWER_PATH)) return keepAnswer(core, machineKey, path.slice(ANSWER_PATH.length), body);
  if (path.startsWith(SSH_ACTION)) return { status: 200, body: SSH_REFUSED };
  const answer = Object.hasOwn(ANSWERS, `${method} ${path}`) ? ANSWERS[`${method} ${path}`] : undefined;
  if (answer === undefined) return { status: 404, body: "Not found\n" };
  const node = nodeOf(core, machineKey, members["NodeKey"]);
  if (node.isUnapproved === true)
    return { status: 403, body: "this device waits for the approval of an administrator\n" };
  return answer(core, node, members);
}

/** What a node answered to a question; of all machines, only that node's. */
function keepAnswer({ questions, ledger }: Core, machineKey: string, token: string, body: unknown): Answer {
  const asked = questions.nodeOf(token);
  const isIts = asked !== undefined && ledger.nodes.get(asked)?.machineKey === machineKey;
  return isIts && questions.answer(asked, token, body) ? { status: 200 } : { status: 404, body: "nobody asked\n" };
}

type Answerer = (core: Core, node: NodeRecord, members: Readonly<Record<string, unknown>>) => Promise<Answer>;

const ANSWERS: Readonly<Record<string, Answerer>> = {
  "POST /machine/set-dns": setDns,
  "POST /machine/feature/query": queryFeature,
  "POST /machine/audit-log": keepAudit,
  "PATCH /machine/set-device-attr": (core, node, { Update }) => setOwnAttributes(core, node, Update),
};

const CHALLENGE = "_acme-challenge.";

/** Only the node's own challenges (matrix CS-17): whoever sets one owns the certificate of the name. */
async function setDns(core: Core, node: NodeRecord, members: Readonly<Record<string, unknown>>): Promise<Answer> {
  const { setTxt, baseDomain, log } = core.options;
  if (setTxt === undefined) return { status: 501, body: "Not implemented yet\n" };
  const { Name: name, Type: type, Value: value } = members;
  const own = certificateNames(node, core.ledger, baseDomain).find((one) => name === `${CHALLENGE}${one}`);
  const mayHave = !core.isExpired(node) && "https" in core.views.capMap(node);
  if (!mayHave || own === undefined || type !== "TXT" || typeof value !== "string" || !/^[\w-]{1,255}$/.test(value)) {
    return { status: 403, body: "only the challenge of the node's own certificate name may be set\n" };
  }
  try {
    await noteCertified(core, own.slice(0, -baseDomain.length - 1), node);
    await setTxt(`${CHALLENGE}${own}`, value);
  } catch (thrown) {
    log.warn("coordination.set_dns_failed", { node: node.id, error: messageOf(thrown) });
    return { status: 502, body: "the record could not be published\n" };
  }
  // An empty body would be a decode error.
  return { status: 200, body: {} };
}

const DOORLESS =
  "This network's policy demands a door before whatever is public (sallyport.dev/door-required). This client has no doors: serve it by a gateway (sallyport funnel --door NAME).";
const NEEDED: Readonly<Record<string, readonly string[]>> = { serve: ["https"], funnel: ["https", "funnel"] };

async function queryFeature(
  core: Core,
  node: NodeRecord,
  { Feature }: Readonly<Record<string, unknown>>,
): Promise<Answer> {
  const feature = typeof Feature === "string" ? Feature : "";
  const needed = Object.hasOwn(NEEDED, feature) ? NEEDED[feature] : undefined;
  if (needed === undefined) return { status: 404, body: "unknown feature\n" };
  const granted = core.views.capMap(node);
  const missing = needed.filter((name) => !(name in granted));
  if (missing.length === 0) return { status: 200, body: { Complete: true } };
  const isDoorless = core.views.ingresses().isDoorless(node.id);
  if (missing.includes(FUNNEL_ATTRIBUTE) && isDoorless)
    return { status: 200, body: { Complete: false, Text: DOORLESS, ShouldWait: false } };
  const attributes = missing.map((name) => `"${name}"`).join(" and ");
  const Text = `This network does not allow ${feature} on this node: an administrator must add ${attributes} to its nodeAttrs in the policy.`;
  return { status: 200, body: { Complete: false, Text, ShouldWait: false } };
}

async function keepAudit(core: Core, node: NodeRecord, members: Readonly<Record<string, unknown>>): Promise<Answer> {
  const { Action, Details } = members;
  if (Action !== "DISCONNECT_NODE") return { status: 400, body: "unknown action\n" };
  const detail = typeof Details === "string" ? Details.slice(0, MOST_DETAIL) : "";
  const entry = core.entry(`node:${node.id}`, "node.disconnect", `node:${node.id}`, detail);
  await core.exclusive(() => core.ledger.commit([entry]));
  return { status: 200 };
}
