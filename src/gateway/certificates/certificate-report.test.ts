import { expect, test } from "vitest";
import type { CertificateStatus } from "../../certs/keeper.ts";
import { fileStatus, localStatus, observedCertificate, problemOf } from "./certificate-report.ts";

const NOW = Date.UTC(2026, 0, 1);
const failure = { at: NOW, authority: "letsencrypt", code: "CERT_ORDER_REFUSED", message: "no" };
const status = (more: Partial<CertificateStatus>): CertificateStatus => ({
  id: "a",
  names: ["a.example.com"],
  state: "valid",
  observed: NOW,
  ...more,
});

test.each<[Partial<CertificateStatus>, string | undefined]>([
  [{}, undefined],
  [{ state: "waiting" }, undefined],
  [{ lastFailure: failure }, undefined],
  [{ state: "waiting", lastFailure: failure }, "There is no certificate yet for a.example.com: no"],
  [{ state: "expired", lastFailure: failure }, "The certificate has expired for a.example.com: no"],
  [{ authority: "file", lastFailure: failure }, "The new certificate is not used for a.example.com: no"],
])("an operator who asks what is wrong with %j", (given, wanted) => {
  expect(problemOf(status(given))).toBe(wanted);
});

test("a file that never was good has no names, but a place", () => {
  const file = fileStatus({ file: "/etc/a.pem", names: [], problem: "garbage", observed: NOW }, NOW);
  expect(file.state).toBe("none");
  expect(problemOf(file)).toBe("There is no certificate yet for /etc/a.pem: garbage");
});

test("files and the local CA's certificates run out", () => {
  const dates = { notBefore: NOW - 2, notAfter: NOW };
  expect(fileStatus({ file: "/etc/a.pem", names: ["a"], ...dates, observed: NOW }, NOW).state).toBe("expired");
  const local = { names: ["a"], key: "", chain: "", ...dates };
  expect([localStatus(local, NOW - 1).state, localStatus(local, NOW).state]).toEqual(["valid", "expired"]);
});

test("`status` shows names, state, times and the authority", () => {
  expect(observedCertificate(status({ authority: "letsencrypt", notAfter: NOW }))).toEqual({
    Names: ["a.example.com"],
    State: "valid",
    Authority: "letsencrypt",
    NotAfter: "2026-01-01T00:00:00.000Z",
    RenewAt: "",
    Observed: "2026-01-01T00:00:00.000Z",
  });
});
