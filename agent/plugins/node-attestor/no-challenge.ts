import { Fault } from '../../../runtime/fault.ts';

/** What an attestor answers whose other half never asks. */
export async function noChallenge(): Promise<never> {
  throw new Fault(
    'ATTESTATION_DENIED',
    'the server sent a challenge, which this attestor has none of',
  );
}
