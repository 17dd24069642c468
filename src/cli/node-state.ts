import type { IpnStatus } from "../wire/ipn.ts";

/** Why nothing works in this state, or nothing (upstream `status.go:isRunningOrStarting`). */
export function stateRefusal(status: IpnStatus): string | undefined {
  switch (status.BackendState) {
    case "Running":
    case "Starting":
      return undefined;
    case "Stopped":
      return "Sallyport is stopped.";
    case "NeedsLogin":
      return status.AuthURL === "" ? "Logged out." : `Logged out.\nLog in at: ${status.AuthURL}`;
    case "NeedsMachineAuth":
      return "Machine is not yet approved by tailnet admin.";
    default:
      return `unexpected state: ${status.BackendState}`;
  }
}
