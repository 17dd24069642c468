import type { Known } from "./document.ts";
import { isLogin, type Names, parseSelector, type Selector } from "./selector.ts";
import type { Path, PolicySource } from "./source.ts";

/** A value of the policy, and where it stands. */
export interface Place {
  readonly value: unknown;
  readonly path: Path;
}

/** How a complaint about one element is worded. */
export type Wording = (problem: string, text: string) => string;

const asIs: Wording = (problem) => problem;

/** Reads whom or what a list names, and complains where that cannot be. */
export class SelectorReader {
  readonly names: Names;
  readonly source: PolicySource;
  /** Mail domains of the tailnet; `undefined` when not known. */
  readonly domains: ReadonlySet<string> | undefined;
  readonly #users: readonly string[] | undefined;

  constructor(source: PolicySource, names: Names, { users, domains }: Known) {
    this.source = source;
    this.names = names;
    this.#users = users;
    const own = domains ?? users?.map((user) => user.slice(user.lastIndexOf("@") + 1));
    this.domains = own === undefined ? undefined : new Set(own);
  }

  selectors(value: unknown, path: Path, wording: Wording = asIs): readonly Selector[] {
    return this.source.texts(value, path).map((text, index) => this.selector(text, [...path, index], wording));
  }

  selector(text: string, path: Path, wording: Wording = asIs): Selector {
    const selector = parseSelector(text, this.names);
    const fail = (problem: string): Error => this.source.fault("POLICY_RULE", path, wording(problem, text));
    if (typeof selector === "string") throw fail(selector);
    if (
      selector.kind === "user" &&
      this.#users !== undefined &&
      !this.#users.some((user) => isLogin(selector.login, user))
    ) {
      throw this.source.fault("POLICY_UNKNOWN_USER", path, wording(`user not found: "${text}"`, text));
    }
    if (selector.kind === "domain" && this.domains !== undefined && !this.domains.has(selector.domain)) {
      throw fail(
        `${selector.domain} is not associated with this Tailnet and cannot be used in user:*@<domain> expressions`,
      );
    }
    return selector;
  }

  fault(path: Path, problem: string): Error {
    return this.source.fault("POLICY_RULE", path, problem);
  }

  unsupported(path: Path, what: string): Error {
    const hint = `Take "${what}" out of the policy.`;
    return this.source.fault("POLICY_UNSUPPORTED", path, `"${what}" is not supported`, hint);
  }
}
