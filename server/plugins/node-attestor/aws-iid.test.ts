import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import {
  instanceDocument as document,
  instanceCertificate,
  instanceSignature as rsa2048,
} from '../../../test/fixtures/instance-identity.ts';
import { awsIidAttestor } from './aws-iid.ts';

const exchange = {
  signal: new AbortController().signal,
  challenge: () => assert.fail('no challenge is due'),
};

describe('awsIidAttestor', () => {
  const attest = (evidence: object, accountIds = ['123456789012']) =>
    awsIidAttestor({
      ...{ trustDomain: parseTrustDomain('example.org'), accountIds },
      keys: [new X509Certificate(instanceCertificate).publicKey],
    }).attest(Buffer.from(JSON.stringify(evidence)), exchange);

  it('names the agent after its account, region and instance, once', async () => {
    const node = await attest({ document, rsa2048, signature: 'unused' });
    assert.equal(
      String(node.agentId),
      'spiffe://example.org/spire/agent/aws_iid/123456789012/eu-central-1/i-1234567890abcdef0',
    );
    assert.deepEqual(node.selectors, [
      'az:eu-central-1a',
      'image:id:ami-5fb8c835',
      'instance:id:i-1234567890abcdef0',
    ]);
    assert.deepEqual([node.canReattest, node.firstUseOnly], [false, true]);
  });

  it('refuses an account that is not on the list', async () => {
    await assert.rejects(attest({ document, rsa2048 }, ['999999999999']), {
      code: 'ATTESTATION_DENIED',
      cause: 'account 123456789012 is not on the list',
    });
  });

  it('refuses a document beside the one that was signed, and a signature that is none', async () => {
    const other = document.replace('i-1234567890abcdef0', 'i-0');
    await assert.rejects(attest({ document: other, rsa2048 }), {
      cause: 'it signs another document',
    });
    await assert.rejects(attest({ document, rsa2048: 'AAAA' }), { code: 'ATTESTATION_DENIED' });
  });

  it('refuses a payload without the RSA-2048 signature', async () => {
    await assert.rejects(attest({ document, signature: 'x' }), { code: 'INVALID_ARGUMENT' });
  });
});
