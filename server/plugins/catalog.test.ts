import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { makeBundle } from '../../identity/bundle.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Watched } from '../../runtime/watched.ts';
import { instanceCertificate } from '../../test/fixtures/instance-identity.ts';
import { SERVER_CONFIG } from '../../test/fixtures/running-server.ts';
import { serverConfigSchema } from '../config.ts';
import { nodeAttestors } from './catalog.ts';

const UUID = '11111111-2222-3333-4444-555555555555';

describe('nodeAttestors', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'writ-catalog-'));
    file = join(folder, 'certificate.pem');
    writeFileSync(file, instanceCertificate);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const attestors = (configured: object) => {
    const config = v.parse(serverConfigSchema, {
      ...{ ...SERVER_CONFIG, state_dir: folder, node_attestors: configured },
    });
    const { trust_domain: trustDomain } = config;
    return nodeAttestors(config.node_attestors, {
      ...{ trustDomain, clock: systemClock },
      joinTokens: { take: async () => undefined },
      spentTokens: { spend: async () => false },
      isBarred: async () => false,
      bundle: new Watched(makeBundle({ trustDomain, x509: [] })),
    });
  };

  it('makes those that are configured, by the names that agents use, and no other', () => {
    const configured = {
      join_token: {},
      x509pop: { ca_bundle_files: [file] },
      oidc: {
        issuers: [
          { name: 'a', preset: 'github', audience: 'writ', claims: { repository_id: '7' } },
          { name: 'b', issuer: 'https://b', jwks_file: file, audience: 'w', claims: { sub: 'x' } },
        ],
      },
      k8s_psat: {
        clusters: {
          prod: {
            ...{ api_server: 'https://k8s', ca_file: file, token_file: file },
            service_account_allow_list: ['spire:agent'],
          },
        },
      },
      aws_iid: { account_ids: ['123456789012'], certificate_files: [file] },
      gcp_iit: { project_ids: ['acme'] },
      azure_msi: { tenants: [{ id: UUID, audience: 'api://writ', subscription_ids: [UUID] }] },
    };
    const made = attestors(configured);
    assert.deepEqual([...made.keys()], Object.keys(configured));
    for (const [type, attestor] of made) assert.equal(attestor.type, type);
    assert.equal(attestors({}).size, 0);
  });

  it('refuses certificate files that hold none', () => {
    writeFileSync(file, 'nothing');
    const aws = { account_ids: ['123456789012'], certificate_files: [file] };
    assert.throws(
      () => attestors({ aws_iid: aws }),
      /node_attestors\.aws_iid\.certificate_files: no certificates can be read/,
    );
  });
});
