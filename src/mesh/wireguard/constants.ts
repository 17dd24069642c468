// WireGuard paper section 6 and wireguard-go device/constants.go.
export const REKEY_AFTER_MS = 120_000;
export const REJECT_AFTER_MS = 180_000;
export const REKEY_TIMEOUT_MS = 5_000;
export const KEEPALIVE_MS = 10_000;
export const NEW_HANDSHAKE_MS: number = KEEPALIVE_MS + REKEY_TIMEOUT_MS;
export const LAST_MINUTE_MS: number = REJECT_AFTER_MS - KEEPALIVE_MS - REKEY_TIMEOUT_MS;
export const ERASE_AFTER_MS: number = 3 * REJECT_AFTER_MS;
export const MOST_ATTEMPTS = 18;
export const MOST_JITTER_MS = 334;
export const INITIATION_SPACING_MS = 20;
