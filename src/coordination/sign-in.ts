import { Fault } from "../base/fault.ts";
import { checkedLogin } from "./administration.ts";
import type { Core } from "./core.ts";
import type { OidcIdentity, User } from "./records.ts";

/** What a provider has proved of a person. */
export interface SignIn extends OidcIdentity {
  /** A mail address that the provider has verified. */
  readonly mail: string | undefined;
  readonly displayName?: string;
  readonly profilePicture?: string;
}

const LONGEST_NAME = 200;

/**
 * The user whom issuer and subject stand for; nothing else ever decides that (matrix CS-5). At the first sign-in a user
 * with that mail address as login is taken over if nobody has signed in as that user yet, else one is made if `mayJoin`.
 */
export function signIn(core: Core, who: SignIn, mayJoin: (mail: string) => boolean): Promise<User> {
  const { issuer, subject, mail } = who;
  const by = `oidc:${subject}`.slice(0, 200);
  return core.exclusive(async () => {
    const known = [...core.ledger.users.values()].find(
      ({ identity }) => identity?.issuer === issuer && identity.subject === subject,
    );
    if (known !== undefined) return known;
    if (mail === undefined) throw refused("the provider has not verified a mail address", "a verified one");
    const login = checkedLogin(mail);
    const shown = {
      displayName: (who.displayName ?? login).slice(0, LONGEST_NAME),
      ...(who.profilePicture === undefined ? {} : { profilePicture: who.profilePicture }),
      identity: { issuer, subject },
    };
    const namesake = core.ledger.userByLogin(login);
    if (namesake?.identity !== undefined)
      throw refused(`somebody else signs in as ${login}`, "a mail address of one's own");
    if (namesake !== undefined) {
      const value: User = { ...namesake, ...shown };
      await core.ledger.commit([{ put: "user", value }, core.entry(by, "user.link", `user:${value.id}`, login)]);
      core.streams.touchAll();
      return value;
    }
    if (!mayJoin(login)) throw refused(`${login} may not join this network`, "a user or domain that was let in");
    const { id, change } = core.nextId("nextUser");
    const value: User = { id, login, created: core.wall, ...shown };
    await core.ledger.commit([change, { put: "user", value }, core.entry(by, "user.create", `user:${id}`, login)]);
    return value;
  });
}

function refused(found: string, wanted: string): Fault {
  return new Fault("COORDINATION_SIGN_IN", `Cannot sign in: ${found}, wanted ${wanted}`, {
    hint: "Ask whoever runs this network.",
  });
}
