/**
 * Node attestor `gcp_iit`: shows the identity token of a Compute Engine instance. On the wire as
 * SPIRE's: the token.
 *
 * Source: Google Cloud, "Verify VM identity".
 */
import { readMetadata } from './metadata.ts';
import { noChallenge } from './no-challenge.ts';
import type { NodeAttestor } from './node-attestor.ts';

export interface GcpIitNodeOptions {
  readonly metadataUrl: string;
  readonly serviceAccount: string;
  /** As the server's configuration has it. */
  readonly audience: string;
}

export function gcpIitNodeAttestor(options: GcpIitNodeOptions): NodeAttestor {
  const { metadataUrl: service, serviceAccount, audience } = options;
  const query = new URLSearchParams({ audience, format: 'full' });
  const account = encodeURIComponent(serviceAccount);
  const path = `/computeMetadata/v1/instance/service-accounts/${account}/identity?${query}`;
  return {
    type: 'gcp_iit',
    canReattest: false,
    async evidence(signal) {
      const headers = { 'metadata-flavor': 'Google' };
      const token = await readMetadata({ service, path, headers }, signal);
      return Buffer.from(token.trim());
    },
    answer: noChallenge,
  };
}
