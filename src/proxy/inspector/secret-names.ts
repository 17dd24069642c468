import { foldName } from "../../identity/reserved.ts";

const SECRET =
  /(?:^|-)(?:cookie2?|set-cookie|auth|authentication|authorization|code|cvc|cvv|key|mfa|otp|pass|pin|psw|pw|pwd|saml|sid|sig|state|nonce|totp)(?:-|$)|token|secret|passw|passphrase|passcode|apikey|api-key|access-key|session|credential|signature|assertion|bearer|jwt|csrf|xsrf|samlre|verifier/;

/** Does a field, parameter or member of this name hold what only its owner may know? */
export function isSecretName(name: string, others: readonly string[] = []): boolean {
  const folded = foldName(name.replace(/([a-z])(?=[A-Z])/g, "$1-"));
  return SECRET.test(folded) || others.some((other) => foldName(other) === folded);
}
