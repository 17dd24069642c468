import { foldName } from "../../identity/reserved.ts";

const SECRET =
  /(?:^|-)(?:cookie2?|set-cookie|auth|authentication|authorization|codes?\d?|cvc|cvv|key|mfa|otp|mdp|(?:pass|pin|psw|pw|pwd)\d?|saml|sid|sig|state|nonce|totp)(?:-|$)|token|secret|passw|passphrase|passcode|apikey|api-key|access-key|session|credential|signature|assertion|bearer|jwt|csrf|xsrf|samlre|verifier|kennwort|contrase|senha|wachtwoord|mot-de-passe/;

/** `apiKey` and `API_KEY` are one name. */
export function foldWords(name: string): string {
  return foldName(name.replace(/([a-z])(?=[A-Z])/g, "$1-"));
}

/** Of JSON: `pass\u0077ord` is a password, too. */
export function nameIn(text: string): string {
  return text.replace(/\\u([0-9a-f]{4})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** Does a field, parameter or member of this name hold what only its owner may know? */
export function isSecretName(name: string, others: readonly string[] = []): boolean {
  const folded = foldWords(name);
  return SECRET.test(folded) || others.some((other) => foldName(other) === folded);
}
