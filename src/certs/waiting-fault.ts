import { Fault } from "../base/fault.ts";

/** There is no certificate, and it is too early to ask for one again. */
export class WaitingFault extends Fault {
  /** Unix time in ms. */
  readonly until: number;

  constructor(names: readonly string[], until: number, why: string) {
    super(
      "CERT_WAITING",
      `Cannot ask for a certificate for "${names[0]}" before ${new Date(until).toISOString()}: ${why}`,
      { hint: "`sallyport cert renew NAME` tries at once, unless the CA asked to be left alone." },
    );
    this.until = until;
  }
}
