/** The part of lit-html that the page uses. */

export interface TemplateResult {
  strings: TemplateStringsArray;
  values: unknown[];
}
export declare const html: (strings: TemplateStringsArray, ...values: unknown[]) => TemplateResult;
export declare const svg: (strings: TemplateStringsArray, ...values: unknown[]) => TemplateResult;
export declare const nothing: unique symbol;
export declare function render(
  value: unknown,
  container: HTMLElement | DocumentFragment,
  options?: { host?: object },
): unknown;
