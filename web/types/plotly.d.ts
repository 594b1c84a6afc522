/** The part of Plotly that the page uses; it is loaded as a classic script, after the first paint. */

export interface PlotAxis {
  range: [number, number];
  type: string;
  _offset: number;
  _length: number;
  /** data value to pixels within the plot area */
  d2p(value: number): number;
  /** pixels within the plot area to a data value */
  p2d(pixel: number): number;
}

export interface PlotElement extends HTMLElement {
  _fullLayout?: { xaxis: PlotAxis; yaxis: PlotAxis; [key: string]: any };
  on(event: string, handler: (data: any) => unknown): void;
}

export interface PlotlyStatic {
  version: string;
  react(element: HTMLElement, data: object[], layout: object, config?: object): Promise<unknown>;
  purge(element: HTMLElement): void;
}

declare global {
  interface Window {
    Plotly?: PlotlyStatic;
  }
}
