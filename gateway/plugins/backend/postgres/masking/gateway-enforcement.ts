import { timestampDate } from '@bufbuild/protobuf/wkt';
import {
  Enforce,
  type PostgresBackend,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import type { LoginSource } from '../../../../credentials/login-source.ts';
import { PrimaryControl } from '../upstream/primary.ts';
import { Detectors, type OnFound } from './detectors/detectors.ts';
import type { Classification } from './masked-relations.ts';
import { ResultGuard } from './result-guard.ts';
import type { SecondWall } from './second-wall.ts';
import { SharedAccount } from './shared-account.ts';
import { WireMasking } from './wire-masking.ts';

export interface EnforcementOptions {
  /** Of the account; disposed with the enforcement. */
  readonly source: LoginSource;
  readonly classification: Classification;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onFound: OnFound;
}

/** What looks at results of a backend whose database masks. */
export function databaseGuard(
  backend: PostgresBackend,
  parts: { readonly wall: SecondWall | undefined; readonly onFound: OnFound },
): ResultGuard {
  const detectors = Detectors.of(backend, parts.onFound);
  return new ResultGuard({ rules: undefined, detectors, wall: parts.wall });
}

/** Where the gateway alone keeps sessions to their rights: all that it needs for one backend. */
export class GatewayEnforcement implements AsyncDisposable {
  readonly masking: WireMasking;
  readonly account: SharedAccount;
  readonly guard: ResultGuard;
  readonly #control: PrimaryControl;
  readonly #source: LoginSource;

  /** @returns undefined for a backend whose database enforces */
  static of(backend: PostgresBackend, options: EnforcementOptions): GatewayEnforcement | undefined {
    return backend.enforce === Enforce.GATEWAY
      ? new GatewayEnforcement(backend, options)
      : undefined;
  }

  private constructor(backend: PostgresBackend, options: EnforcementOptions) {
    const { clock, log, classification, onFound } = options;
    const ends = backend.exception?.expiresAt;
    // Without an exception there is nothing to allow it.
    const expiresAt = ends === undefined ? new Date(0) : timestampDate(ends);
    const control = new PrimaryControl(backend, options.source);
    const masking = new WireMasking({
      query: (text, values) => control.query(text, values),
      ...{ classification, expiresAt, clock, log },
    });
    this.#control = control;
    this.#source = options.source;
    this.masking = masking;
    this.account = new SharedAccount({
      source: options.source,
      ...{ expiresAt, clock, ready: () => masking.ready(), locate: () => control.locate() },
    });
    const detectors = Detectors.of(backend, onFound);
    this.guard = new ResultGuard({ rules: masking.rules, detectors });
  }

  start(): void {
    this.masking.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.masking[Symbol.asyncDispose]();
    await this.#control[Symbol.asyncDispose]();
    await this.#source[Symbol.asyncDispose]();
  }
}
