//# allFunctionsCalledOnLoad
import{q as l,at as n}from"./start-CflulvJJ.js";function o(e){const u=l(()=>e.value instanceof n?e.value.fields:[]);return{said:s=>u.value.find(({field:a})=>a===s)?.message??null,whole:l(()=>u.value.length===0?e.value:null)}}export{o as u};
