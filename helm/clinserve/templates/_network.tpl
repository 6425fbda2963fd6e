{{/* Parts of network policies. */}}

{{- define "clinserve.policyHead" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "clinserve.fullname" (index . 0) }}-{{ index . 1 }}
  labels: {{- include "clinserve.labels" (index . 0) | nindent 4 }}
{{- end -}}

{{/* Pods of this release by component: {{ include "clinserve.pods" (list . "head" "gateway") }} */}}
{{- define "clinserve.pods" -}}
matchLabels: {{- include "clinserve.selector" (index . 0) | nindent 2 }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [{{ rest . | join ", " }}]}
{{- end -}}

{{/* One rule out: {{ include "clinserve.out" .Values.networkPolicy.database }}. A rule without `to` would mean anywhere; that there is
     one is checked. */}}
{{- define "clinserve.out" -}}
- ports: [{port: {{ .port }}, protocol: TCP}]
  to: {{- toYaml (required "networkPolicy: a `to` is missing" .to) | nindent 4 }}
{{- end -}}
