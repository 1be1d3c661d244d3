/** What the agent's halves ask a cloud's metadata service, and what they show the server. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { awsIidNodeAttestor } from './aws-iid.ts';
import { azureMsiNodeAttestor } from './azure-msi.ts';
import { gcpIitNodeAttestor } from './gcp-iit.ts';

const SIGNAL = new AbortController().signal;

describe('node attestors of clouds', () => {
  let server: Server;
  let asked: string[];
  let answer: (request: IncomingMessage) => string | number;
  beforeEach(async () => {
    asked = [];
    server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      const given = answer(request);
      if (typeof given === 'number') response.writeHead(given, { location: '/x' }).end();
      else response.end(given);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(async () => {
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  });
  const metadataUrl = () => {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `http://127.0.0.1:${address.port}`;
  };

  it('aws_iid: opens a session, then shows the document with its signatures', async () => {
    answer = ({ method, headers, url }) => {
      if (method === 'PUT') return headers['x-aws-ec2-metadata-token-ttl-seconds'] ? 'sess' : 400;
      if (headers['x-aws-ec2-metadata-token'] !== 'sess') return 401;
      return `<${url?.split('/').at(-1)}>`;
    };
    const evidence = await awsIidNodeAttestor({ metadataUrl: metadataUrl() }).evidence(SIGNAL);
    assert.deepEqual(JSON.parse(Buffer.from(evidence).toString()), {
      document: '<document>',
      signature: '<signature>',
      rsa2048: '<rsa2048>',
    });
    assert.equal(asked[0], 'PUT /latest/api/token');
  });

  it('gcp_iit: shows the token for the audience, in full format', async () => {
    answer = ({ headers }) => (headers['metadata-flavor'] === 'Google' ? 'a.b.c\n' : 403);
    const options = { metadataUrl: metadataUrl(), serviceAccount: 'default', audience: 'a b' };
    const evidence = await gcpIitNodeAttestor(options).evidence(SIGNAL);
    assert.equal(Buffer.from(evidence).toString(), 'a.b.c');
    const path = '/computeMetadata/v1/instance/service-accounts/default/identity';
    assert.deepEqual(asked, [`GET ${path}?audience=a+b&format=full`]);
  });

  it('azure_msi: shows the access token for the resource', async () => {
    answer = ({ headers }) => (headers.metadata === 'true' ? '{"access_token":"a.b.c"}' : 400);
    const options = { metadataUrl: metadataUrl(), audience: 'api://writ' };
    const evidence = await azureMsiNodeAttestor(options).evidence(SIGNAL);
    assert.equal(Buffer.from(evidence).toString(), '{"token":"a.b.c"}');
    answer = () => '{"token":"secret"}';
    await assert.rejects(azureMsiNodeAttestor(options).evidence(SIGNAL), (error: Error) => {
      assert.ok(!JSON.stringify([error, error.message, error.cause]).includes('secret'));
      return true;
    });
  });

  it('follows no redirect, reads no endless answer, and answers no challenge', async () => {
    const attestor = gcpIitNodeAttestor({
      ...{ metadataUrl: metadataUrl(), serviceAccount: 'default', audience: 'a' },
    });
    for (const given of [302, 404, 'x'.repeat(65_537)]) {
      answer = () => given;
      await assert.rejects(attestor.evidence(SIGNAL), { code: 'UNAVAILABLE' });
    }
    await assert.rejects(attestor.answer(Buffer.of(1), SIGNAL), { code: 'ATTESTATION_DENIED' });
  });
});
