{{/* A job of ours in a pod: {{ include "clinserve.jobPod" (dict "root" . "role" "prepare" "config" $name "command" $list "env" $yaml "weights" false) }} */}}
{{- define "clinserve.jobPod" -}}
{{- $root := .root -}}
metadata:
  labels: {{- include "clinserve.podLabels" (list $root .role) | nindent 4 }}
spec:
  {{- with include "clinserve.imagePullSecrets" $root }}
  {{- . | nindent 2 }}
  {{- end }}
  restartPolicy: Never
  serviceAccountName: {{ include "clinserve.serviceAccount" (list $root .role) }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {{- include "clinserve.podSecurity" $root | nindent 4 }}
  {{- with $root.Values.jobs.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.jobs.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .role }}
      image: {{ include "clinserve.image" (list $root (.image | default $root.Values.image)) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: {{- toYaml .command | nindent 8 }}
      securityContext: {{- include "clinserve.containerSecurity" $root | nindent 8 }}
      env:
        {{- include "clinserve.env" (list $root .role) | nindent 8 }}
        {{- with .env }}
        {{- . | nindent 8 }}
        {{- end }}
      resources: {{- toYaml $root.Values.jobs.resources | nindent 8 }}
      volumeMounts:
        {{- include "clinserve.mounts" (list $root .role) | nindent 8 }}
        {{- if .weights }}
        - {name: weights, mountPath: {{ $root.Values.weights.mountPath }}}
        {{- end }}
  volumes:
    {{- include "clinserve.volumes" (list $root .role .config) | nindent 4 }}
    {{- if and (eq .role "prepare") $root.Values.state.existingClaim }}
    - {name: state, persistentVolumeClaim: {claimName: {{ $root.Values.state.existingClaim }}}}
    {{- else }}
    - {name: state, emptyDir: {sizeLimit: {{ $root.Values.state.size }}}}
    {{- end }}
    {{- if .weights }}
    {{- include "clinserve.weightsVolume" $root | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* After the first install, since what it needs is then there; before every upgrade, since what comes needs it. */}}
{{- define "clinserve.hook" -}}
helm.sh/hook: post-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation
argocd.argoproj.io/hook: Sync
argocd.argoproj.io/hook-delete-policy: BeforeHookCreation
{{- end -}}
