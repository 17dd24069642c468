import type { C2nRequest, C2nResponse } from "./control/control-client.ts";

const json = (body: unknown): C2nResponse => ({
  status: 200,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});
const text = (status: number, body: string): C2nResponse => ({ status, headers: {}, body });

/**
 * What the server may ask of a node (control-protocol.md 9.2): only what neither changes it nor looks into the machine.
 * Profiles, logs, preferences and updates are none of its business (CC-6).
 */
const ANSWERS: Readonly<Record<string, { readonly methods: readonly string[]; readonly answer: C2nResponse }>> = {
  "/posture/identity": { methods: ["GET"], answer: json({ PostureDisabled: true }) },
  "/update": { methods: ["GET", "POST"], answer: json({ Enabled: false, Supported: false, Started: false }) },
  "/logtail/flush": { methods: ["POST"], answer: text(204, "") },
};

export function answerC2n({ method, path }: C2nRequest): C2nResponse {
  const [name = ""] = path.split("?", 1);
  const known = Object.hasOwn(ANSWERS, name) ? ANSWERS[name] : undefined;
  if (known === undefined) return text(400, "unknown c2n path\n");
  return known.methods.includes(method) ? known.answer : text(405, "bad method\n");
}
