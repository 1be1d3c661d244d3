/** Node attestor `join_token`: shows a secret that an operator minted for this node. */
import { Fault } from '../../../runtime/fault.ts';
import type { NodeAttestor } from './node-attestor.ts';

export function joinTokenNodeAttestor(options: { readonly token: string }): NodeAttestor {
  return {
    type: 'join_token',
    canReattest: false,
    evidence: async () => Buffer.from(options.token, 'utf8'),
    answer: async () => {
      throw new Fault(
        'ATTESTATION_DENIED',
        'the server sent a challenge, which join_token has none of',
      );
    },
  };
}
