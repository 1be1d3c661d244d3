import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { localhostCertificate } from '../../test/fixtures/localhost-tls.ts';
import { temporaryDir } from '../../test/fixtures/running-server.ts';
import { readWebAuthorities } from './web-authorities.ts';

describe('readWebAuthorities', () => {
  it('reads a file of certificates, with text between them', () => {
    using dir = temporaryDir();
    const file = join(dir.path, 'web.pem');
    writeFileSync(file, `# Our own\n${localhostCertificate}`);
    assert.ok(readWebAuthorities(file)?.includes(localhostCertificate));
    assert.equal(readWebAuthorities(undefined), undefined);
  });

  it('names the field and the file of what it cannot read', () => {
    using dir = temporaryDir();
    const file = join(dir.path, 'web.pem');
    const refused = { code: 'CONFIG_INVALID', message: new RegExp(`web_ca_file: ${file}`) };
    assert.throws(() => readWebAuthorities(file), refused);
    const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    for (const text of ['', 'none', broken]) {
      writeFileSync(file, text);
      assert.throws(() => readWebAuthorities(file), refused);
    }
  });
});
