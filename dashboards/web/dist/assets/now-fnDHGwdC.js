import{r as o,A as t}from"./runtime-core.esm-bundler-DieDPcXY.js";const e=o(Date.now());setInterval(()=>e.value=Date.now(),1e3);const n=t(e);export{n};
