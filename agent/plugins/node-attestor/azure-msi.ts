/**
 * Node attestor `azure_msi`: shows a token of a virtual machine's managed identity. On the wire as
 * SPIRE's: `{"token"}`.
 *
 * Source: Microsoft, "How to use managed identities on a virtual machine to acquire an access token".
 */
import * as v from 'valibot';
import { Fault } from '../../../runtime/fault.ts';
import { readMetadata } from './metadata.ts';
import { noChallenge } from './no-challenge.ts';
import type { NodeAttestor } from './node-attestor.ts';

export interface AzureMsiNodeOptions {
  readonly metadataUrl: string;
  /** The resource that the token is for, as the server's configuration has it. */
  readonly audience: string;
}

const answerSchema = v.object({ access_token: v.pipe(v.string(), v.minLength(1)) });

export function azureMsiNodeAttestor(options: AzureMsiNodeOptions): NodeAttestor {
  const { metadataUrl: service, audience: resource } = options;
  const query = new URLSearchParams({ 'api-version': '2018-02-01', resource });
  const path = `/metadata/identity/oauth2/token?${query}`;
  return {
    type: 'azure_msi',
    canReattest: false,
    async evidence(signal) {
      const text = await readMetadata({ service, path, headers: { metadata: 'true' } }, signal);
      return Buffer.from(JSON.stringify({ token: accessToken(text) }));
    },
    answer: noChallenge,
  };
}

function accessToken(text: string): string {
  try {
    return v.parse(answerSchema, JSON.parse(text)).access_token;
  } catch {
    // Its cause would hold the token.
    throw new Fault('UNAVAILABLE', 'the metadata service gave no token');
  }
}
