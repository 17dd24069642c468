import { readFile } from "node:fs/promises";
import { Fault } from "../../../base/fault.ts";
import type { Secret } from "../dns-provider.ts";

const LONGEST = 16_384;

/**
 * `file:PATH` or `env:NAME`, never the secret itself: settings are shown and logged. Reads when it is used.
 * @throws {Fault} CERT_CHALLENGE_SECRET
 */
export function secretOf(where: string, env: Readonly<Record<string, string | undefined>> = process.env): Secret {
  const [, kind = "", place = ""] = /^(file|env):(.+)$/.exec(where) ?? [];
  if (kind === "") {
    throw new Fault("CERT_CHALLENGE_SECRET", "Cannot use a secret: found neither file:PATH nor env:NAME, wanted one", {
      hint: "Put the secret into a file that only this user may read.",
    });
  }
  return async () => {
    const text = kind === "env" ? env[place] : await readFile(place, "utf8").catch(() => undefined);
    const secret = text?.trim() ?? "";
    if (secret !== "" && secret.length <= LONGEST) return secret;
    throw new Fault("CERT_CHALLENGE_SECRET", `Cannot read the secret at "${where}": found nothing of use there`);
  };
}
