/**
 * Node attestor `aws_iid`: shows the signed identity document of an EC2 instance. On the wire as
 * SPIRE's: `{"document", "signature", "rsa2048"}`.
 *
 * Source: Amazon EC2 User Guide, "Instance identity documents" and IMDSv2.
 */
import { readMetadata } from './metadata.ts';
import { noChallenge } from './no-challenge.ts';
import type { NodeAttestor } from './node-attestor.ts';

export interface AwsIidNodeOptions {
  /** Of the instance metadata service. */
  readonly metadataUrl: string;
}

const FOLDER = '/latest/dynamic/instance-identity';
const SESSION_SECONDS = '60';

export function awsIidNodeAttestor({ metadataUrl: service }: AwsIidNodeOptions): NodeAttestor {
  return {
    type: 'aws_iid',
    canReattest: false,
    async evidence(signal) {
      const session = await readMetadata(
        {
          ...{ service, path: '/latest/api/token', method: 'PUT' },
          headers: { 'x-aws-ec2-metadata-token-ttl-seconds': SESSION_SECONDS },
        },
        signal,
      );
      const headers = { 'x-aws-ec2-metadata-token': session };
      const read = (name: string) =>
        readMetadata({ service, path: `${FOLDER}/${name}`, headers }, signal);
      const [document, signature, rsa2048] = await Promise.all([
        read('document'),
        read('signature'),
        read('rsa2048'),
      ]);
      return Buffer.from(JSON.stringify({ document, signature, rsa2048 }));
    },
    answer: noChallenge,
  };
}
