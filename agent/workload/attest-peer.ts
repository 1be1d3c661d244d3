import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import {
  ALL_VALUES,
  type ConnectedProcess,
  type WantedValues,
  type WorkloadAttestor,
} from '../plugins/workload-attestor/workload-attestor.ts';

/** The part of a socket's peer that attestation needs. */
export interface AttestedProcess extends ConnectedProcess {
  /** Whether the process that connected still lives; true of no other process with its pid. */
  alive(): boolean;
}

export interface AttestOptions {
  readonly attestors: readonly WorkloadAttestor[];
  readonly log: Logger;
  /** What is asked about, e.g. `unix:path` for `unix:path:/bin/x`; all if it is not given. */
  readonly wanted?: ReadonlySet<string>;
}

/**
 * The selectors (`type:value`) that the calling process holds now. What is read by pid is trusted only
 * if the process that connected lives on afterwards: until then its pid cannot be another's.
 *
 * @throws Fault `ATTESTATION_DENIED` if the process has gone or an attestor denies it, `UNAVAILABLE` if no attestor could tell
 */
export async function attestPeer(
  peer: AttestedProcess,
  { attestors, log, wanted }: AttestOptions,
): Promise<ReadonlySet<string>> {
  const results = await Promise.allSettled(
    attestors.map((attestor) => attestor.attest(peer, wantedOf(attestor, wanted))),
  );
  if (!peer.alive()) throw new Fault('ATTESTATION_DENIED', 'the calling process has ended');

  const selectors = new Set<string>();
  let told = 0;
  for (const [at, result] of results.entries()) {
    const type = attestors[at]?.type ?? '';
    if (result.status === 'rejected') {
      if (result.reason instanceof Fault && result.reason.code === 'ATTESTATION_DENIED')
        throw result.reason;
      log.warn(
        { attestor: type, peer_pid: peer.pid, err: result.reason },
        'workload attestor failed',
      );
      continue;
    }
    told++;
    for (const value of result.value) selectors.add(`${type}:${value}`);
  }
  if (told === 0) throw new Fault('UNAVAILABLE', 'the calling process could not be attested');
  return selectors;
}

function wantedOf(
  { type }: WorkloadAttestor,
  wanted: ReadonlySet<string> | undefined,
): WantedValues {
  if (wanted === undefined) return ALL_VALUES;
  return { has: (name) => wanted.has(`${type}:${name}`) };
}
