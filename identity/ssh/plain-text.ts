import { sshInvalid } from './wire.ts';

/** Control and format characters, line separators, halves of surrogate pairs. */
const CONTROLS = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/**
 * Refuses text that could break a line, hide in a log, or change on its way through UTF-8.
 * @param what it is, for the message
 * @throws Fault SSH_INVALID
 */
export function refuseControls(text: string, what: string): void {
  if (CONTROLS.test(text)) throw sshInvalid(`${what}: control characters`);
}
