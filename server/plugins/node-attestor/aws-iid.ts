/**
 * Node attestor `aws_iid`: the identity document of an EC2 instance, signed by Amazon. On the wire as
 * SPIRE's: `{"document", "signature", "rsa2048"}`; only the PKCS#7 of RSA-2048 is looked at. The
 * document never changes and everybody on the instance can read it, so it counts once.
 *
 * Source: Amazon EC2 User Guide, "Instance identity documents".
 */
import type { KeyObject } from 'node:crypto';
import * as v from 'valibot';
import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import { verifySignedData } from '../../../identity/x509/pkcs7.ts';
import { Fault } from '../../../runtime/fault.ts';
import type { AttestedNode, NodeAttestor } from './node-attestor.ts';

export interface AwsIidOptions {
  readonly trustDomain: TrustDomain;
  /** Whose instances are agents: Amazon signs for all its customers. */
  readonly accountIds: readonly string[];
  /** Of Amazon's certificates for the regions in use. */
  readonly keys: readonly KeyObject[];
}

const payloadSchema = v.object({
  document: v.pipe(v.string(), v.minLength(1)),
  rsa2048: v.pipe(v.string(), v.minLength(1)),
});

const segment = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{1,64}$/));
const documentSchema = v.object({
  accountId: segment,
  region: segment,
  instanceId: segment,
  availabilityZone: v.optional(segment),
  imageId: v.optional(segment),
});

export function awsIidAttestor({ trustDomain, accountIds, keys }: AwsIidOptions): NodeAttestor {
  async function attest(evidence: Uint8Array): Promise<AttestedNode> {
    const { document, rsa2048 } = readPayload(evidence);
    const content = signedContent(Buffer.from(rsa2048, 'base64'), keys);
    if (!content.equals(Buffer.from(document))) throw denied('it signs another document');
    const { accountId, region, instanceId, availabilityZone, imageId } = readDocument(content);
    if (!accountIds.includes(accountId)) throw denied(`account ${accountId} is not on the list`);
    const names = ['spire', 'agent', 'aws_iid', accountId, region, instanceId];
    return {
      agentId: SpiffeId.fromSegments(trustDomain, ...names),
      selectors: [
        ...(availabilityZone === undefined ? [] : [`az:${availabilityZone}`]),
        ...(imageId === undefined ? [] : [`image:id:${imageId}`]),
        `instance:id:${instanceId}`,
      ],
      canReattest: false,
      firstUseOnly: true,
    };
  }

  return { type: 'aws_iid', attest };
}

function signedContent(pkcs7: Buffer, keys: readonly KeyObject[]): Buffer {
  let reason = 'no certificate is configured';
  for (const key of keys) {
    try {
      return verifySignedData(pkcs7, key);
    } catch (error) {
      reason = error instanceof Error ? error.message : 'malformed';
    }
  }
  throw denied(reason);
}

function readPayload(evidence: Uint8Array): v.InferOutput<typeof payloadSchema> {
  try {
    return v.parse(payloadSchema, JSON.parse(Buffer.from(evidence).toString('utf8')));
  } catch {
    const message = 'the attestation payload has no document with its RSA-2048 signature';
    throw new Fault('INVALID_ARGUMENT', message);
  }
}

function readDocument(content: Buffer): v.InferOutput<typeof documentSchema> {
  try {
    return v.parse(documentSchema, JSON.parse(content.toString('utf8')));
  } catch {
    throw denied('it is no identity document');
  }
}

function denied(reason: string): Fault {
  return new Fault('ATTESTATION_DENIED', 'the document does not prove this node', {
    cause: reason,
  });
}
