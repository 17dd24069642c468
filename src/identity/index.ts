/** For backends behind the gateway (`sallyport/identity`): who called, by header fields or by a signed assertion. */

export {
  type AssertedIdentity,
  type AssertionVerifierOptions,
  assertionVerifier,
} from "./assertion-verifier.ts";
export { type HeaderCaller, type HeaderIdentity, type RequestHeaders, readIdentity } from "./header-reader.ts";
